"""Time a training step on the CPU as configs have it, and with the trainer's options: channels-last, bf16, fused, cache.

``python tools/benchmark/train_step_cpu.py --json benchmarks/train_step_cpu.json``. A step is everything that a training
repeats: loading a batch, forward, backward, clipping, AdamW. Both kinds alternate in one run on the same images; a
processor without bf16 stays in float32, and the report says so.
"""

import contextlib
import io
import itertools
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from mmcv import Config
from mmcv.runner import build_optimizer

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.common.rng import seed_everything
from projects.mmdet3d_plugin.datasets.converters.create_data import main as create_data
from projects.mmdet3d_plugin.engine.build import build_loader, build_split
from projects.mmdet3d_plugin.engine.compute import speed_up
from projects.mmdet3d_plugin.engine.launch import start
from projects.mmdet3d_plugin.engine.parallel import wrap_model
from projects.mmdet3d_plugin.worlds.create import create_world
from tools.benchmark.options import parse_train_step_cpu
from tools.benchmark.timing import interleaved, save_report, start_report

CONFIGS = {name: f'projects/configs/synthetic/bevformer_{name}.py' for name in ('student', 'teacher')}
PARTS = ['img_backbone', 'img_neck']
GOAL = 1.8
# what each case adds to the one before it
CASES: dict[str, dict[str, Any]] = {
    'as it is': {},
    'fused AdamW': {'optimizer.fused': True},
    '+ images kept': {'cache_mb': 500},
    '+ channels last': {'compute.channels_last': True},
    '+ bf16': {'compute.dtype': 'bf16'},
}


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark from the command line and return the report."""
    args = parse_train_step_cpu(argv)
    report = start_report(args) | {
        'bf16': torch.ops.mkldnn._is_mkldnn_bf16_supported(),
        'goal': GOAL,
        'models': {},
    }
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(io.StringIO()):
            create_world(folder, 5, 0, (320, 180), frames=3, progress=False, workers=1)
            create_data(['nuscenes', '--root-path', folder, '--version', 'v1.0-trainval'])
        for name in args.models:
            report['models'][name] = measure(name, folder, args.rounds)
            print_row(name, report['models'][name])
    return save_report(report, args.json)


def measure(name: str, data_root: str, rounds: int) -> dict[str, Any]:
    """Median milliseconds of a step of every case, and how many times faster than as it is."""
    options: dict[str, Any] = {}
    steps = {}
    for case, more in CASES.items():
        options = {**options, **more}
        steps[case] = make_step(load_config(CONFIGS[name], None, data_root), options)
    # twice to begin with: the second step meets what the first one has built
    for step in steps.values():
        step()
    ms = interleaved(steps, dict.fromkeys(steps, rounds), 'cpu')
    return {'ms': ms, 'faster': {case: ms['as it is'] / value for case, value in ms.items()}}


def make_step(cfg: Config, options: dict[str, Any]) -> Callable[[], None]:
    """A training step of a config with some of the options, on batches that begin anew at the end of the data."""
    seed_everything(0)
    cfg.data.train.pipeline[0]['cache_mb'] = options.get('cache_mb', 0)
    if 'optimizer.fused' in options:
        cfg.optimizer.fused = True
    launch = start('none')
    model = build_model(cfg.model)
    with contextlib.redirect_stderr(io.StringIO()):
        model.init_weights()
    if 'compute.channels_last' in options:
        speed_up([model], PARTS, options.get('compute.dtype'), channels_last=True)
    wrapped = wrap_model(model, launch).train()
    optimizer = build_optimizer(wrapped, cfg.optimizer)
    loader = build_loader(cfg, build_split(cfg, 'train', test_mode=False), True, launch)
    batches = itertools.chain.from_iterable(itertools.repeat(loader))

    def step() -> None:
        """Load, forward, backward, clip, update."""
        wrapped.train_step(next(batches), optimizer)['loss'].backward()
        torch.nn.utils.clip_grad_norm_(wrapped.parameters(), 35)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def print_row(name: str, row: dict[str, Any]) -> None:
    """One line per case."""
    for case, ms in row['ms'].items():
        print(f'{name:8} {case:16} {ms:8.1f} ms   {row["faster"][case]:5.2f}x (goal {GOAL}x)', flush=True)

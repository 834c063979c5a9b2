"""On a GPU every scaled-down config takes the training step that it takes on the CPU, and detects what it detects there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmcv import Config
from torch import nn

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.datasets.converters.nuscenes_converter import create_nuscenes_infos
from projects.mmdet3d_plugin.distill.recipe import build_training
from projects.mmdet3d_plugin.distill.views import named_teachers
from projects.mmdet3d_plugin.engine.build import build_loader, build_split
from projects.mmdet3d_plugin.engine.inference import run_inference
from projects.mmdet3d_plugin.engine.launch import Launch, start
from projects.mmdet3d_plugin.engine.parallel import unpack_batch
from projects.mmdet3d_plugin.engine.train import make_detector
from projects.mmdet3d_plugin.worlds.create import create_world
from tests.conftest import made_once

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device'),
]

WORLD = Path('projects/configs/synthetic')
# They read files of a detector's own labels, and are kitti_pointpillars_teacher.py and kitti_ia_ssd.py as far as a step goes;
# mmdet's own distillation reads a checkpoint.
FILES = ('kitti_sparse', 'kitti_ia_ssd_sparse', 'coco_gfl_ld')
CONFIGS = [path for path in sorted(WORLD.glob('*.py')) if not path.stem.startswith(FILES)]
DETECTORS = [path for path in CONFIGS if 'distiller' not in path.read_text() and '_distill_' not in path.stem]


@pytest.fixture(scope='session')
def synthetic_nuscenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic world of five scenes of three frames, with images and LiDAR. Nothing may write into it."""

    def make(root: Path) -> None:
        create_world(root, 5, 3, (320, 180), frames=3, progress=False, workers=1, reach=18.0, pace=0.5)
        create_nuscenes_infos(root, 'v1.0-trainval', progress=False)

    return made_once(tmp_path_factory, 'synthetic_nuscenes', make)


@pytest.fixture
def exact() -> Iterator[None]:
    """Products and convolutions in float32, as on the CPU."""
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    for flag in flags:
        flag.allow_tf32 = False
    yield
    for flag, value in zip(flags, before, strict=True):
        flag.allow_tf32 = value


@pytest.fixture
def data_root(request: pytest.FixtureRequest) -> Path:
    """The world that a config of the synthetic folder is about."""
    stem = request.node.callspec.params['path'].stem
    name = {'kitti': 'synthetic_kitti', 'coco': 'coco_world'}.get(stem.split('_')[0], 'synthetic_nuscenes')
    return request.getfixturevalue(name)


def load(path: Path, data_root: Path) -> Config:
    """A config whose teachers need no files."""
    cfg = load_config(str(path), {'data.workers_per_gpu': 0, 'data.samples_per_gpu': 2}, data_root)
    if recipe := cfg.get('distiller'):
        sources = [part.source for part in recipe.get('initialize', []) if 'source' in part]
        for source in (*named_teachers(recipe.teacher).values(), *sources):
            source.pop('cache_dir', None)
            if source.pop('checkpoint', None):
                source.random_weights = True
    return cfg


def let_all_pass(settings: Any) -> None:
    """Take thresholds of scores away: random weights are sure of nothing."""
    for key, value in settings.items() if isinstance(settings, dict) else enumerate(settings):
        if key in ('score_thr', 'score_threshold'):
            settings[key] = 0.0
        elif isinstance(value, dict | list):
            let_all_pass(value)


def build(cfg: Config) -> tuple[nn.Module, Config]:
    """A model, the same whenever it is built, that draws nothing at random in its dropout."""
    torch.manual_seed(0)
    model, cfg = build_training(cfg) if cfg.get('distiller') else (make_detector(cfg), cfg)
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    return model, cfg


def step(cfg: Config, batch: dict[str, Any], place: Launch, seed: int) -> tuple[dict, dict]:
    """What the log would say of a step on a device, and the gradients that it leaves."""
    model = build(cfg)[0].to(place.device).train()
    torch.manual_seed(seed)
    out = model.train_step(unpack_batch(batch, place), None)
    out['loss'].backward()
    grads = {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}
    return dict(out['log_vars']), grads


@pytest.mark.usefixtures('exact')
@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_a_step_on_the_gpu_is_the_step_on_the_cpu(path: Path, data_root: Path) -> None:
    cfg = load(path, data_root)
    cpu, gpu = start('none', 'cpu'), start('none', 'cuda')
    _, seen = build(cfg)
    batch = next(iter(build_loader(seen, build_split(seen, 'train', test_mode=False), True, cpu)))
    reference, grads = step(cfg, batch, cpu, 0)
    other, _ = step(cfg, batch, cpu, 1)
    losses, gradients = step(cfg, batch, gpu, 0)
    assert losses.keys() == reference.keys()
    assert gradients.keys() == grads.keys()
    assert all(torch.isfinite(grad).all() for grad in gradients.values())
    drawn = {name for name, value in reference.items() if value != pytest.approx(other[name], rel=1e-6)}
    assert len(drawn) < len(reference)
    fixed = reference.keys() - drawn
    assert {name: losses[name] for name in fixed} == pytest.approx(
        {name: reference[name] for name in fixed}, rel=1e-3, abs=1e-5
    )


@pytest.mark.usefixtures('exact')
@pytest.mark.parametrize('path', DETECTORS, ids=lambda path: path.stem)
def test_a_detector_on_the_gpu_sees_what_it_sees_on_the_cpu(path: Path, data_root: Path) -> None:
    cfg = load(path, data_root)
    let_all_pass(cfg.model)
    dataset, found = build_split(cfg, 'val', test_mode=True), []
    for place in (start('none', 'cpu'), start('none', 'cuda')):
        model = build(cfg)[0].to(place.device)
        results = run_inference(model, build_loader(cfg, dataset, False, place), place)
        found.append([sure_scores(result) for result in results])
    assert any(len(scores) for scores in found[0])
    for reference, scores in zip(*found, strict=True):
        torch.testing.assert_close(scores, reference, rtol=1e-3, atol=1e-5)


def sure_scores(result: Any) -> torch.Tensor:
    """The twenty highest scores of a frame's detections."""
    if isinstance(result, dict):
        scores = result.get('pts_bbox', result)['scores_3d']
    else:  # of a 2D detector, by class
        scores = torch.cat([torch.as_tensor(boxes)[:, 4] for boxes in result])
    return scores.sort(descending=True).values[:20]

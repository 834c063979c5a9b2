"""Time BEVFormer's whole transformer (encoder and decoder, one frame) with our attention, with plain torch and, on CUDA,
as the original runs: with padded rows and mmcv's operator.

``python tools/benchmark/transformer.py --models focal-small --json benchmarks/transformer_cpu.json``. Weights and
image features are random and the same for both; the cameras are a nuScenes-like rig. ``--profile`` prints what the
time goes to, before and after.
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.ops import library
from tools.benchmark.mmcv_attention import mmcv_serves, mmcvs_attention
from tools.benchmark.msda_calls import MODELS
from tools.benchmark.options import parse_transformer
from tools.benchmark.rig import lidar_to_image
from tools.benchmark.timing import interleaved, save_report, start_report

CONFIGS = {
    'base': 'bevformer_base.py',
    'focal-small': 'bevformer_small.py',
    'small': 'bevformer_small_c5_150x150.py',
    'tiny': 'bevformer_tiny.py',
}
GATES = {'base': 5.0, 'focal-small': 3.0, 'small': 3.0, 'tiny': 1.5}


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark from the command line and return the report."""
    args = parse_transformer(argv)
    report = start_report(args) | {'models': []}
    for name in args.models:
        row = measure(name, args)
        report['models'].append(row)
        print(
            f'{name:12} {", ".join(f"{who} {ms:9.1f} ms" for who, ms in row["ms"].items())}, '
            f'{row["ratio"]:.2f}x (gate {row["gate"]}), largest difference {row["difference"]:.1e}',
            flush=True,
        )
    return save_report(report, args.json)


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Medians of one model's transformer with and without our kernels, and how far their outputs lie apart."""
    call = make_call(name, args.device)

    def plain() -> dict[str, Tensor]:
        with library.pure_torch():
            return call()

    def original() -> dict[str, Tensor]:
        with mmcvs_attention():
            return call()

    ours, reference = call()['bev_embed'], plain()['bev_embed']
    difference = ((ours - reference).norm() / reference.norm()).item()
    if args.profile:
        for title, case in (('plain torch', plain), ('ours', call)):
            print(f'--- {name}, {title}\n{profile(case)}')
    rounds = {'ours': args.rounds, 'torch': args.torch_rounds}
    cases = {'ours': call, 'torch': plain}
    if args.device == 'cuda' and mmcv_serves('cuda'):
        cases, rounds = cases | {'original': original}, rounds | {'original': args.rounds}
    times = interleaved(cases, rounds, args.device)
    ratio = times['torch'] / times['ours']
    return {'model': name, 'ms': times, 'ratio': ratio, 'gate': GATES[name], 'difference': difference}


def make_call(name: str, device: str) -> Callable[[], dict[str, Tensor]]:
    """One frame through the head, with a previous BEV feature."""
    torch.manual_seed(0)
    head = _head(CONFIGS[name]).to(device)
    spec, width = MODELS[name], head.transformer.embed_dims
    feats = [torch.randn(1, 6, width, h, w, device=device) for h, w in spec.levels]
    can_bus = np.zeros(18)
    can_bus[:2], can_bus[-2:] = (1.2, 0.3), (0.4, 1.5)
    meta = {
        'lidar2img': lidar_to_image(spec.scale).double().numpy(),
        'img_shape': [spec.image] * 6,
        'can_bus': can_bus,
        'prev_bev_exists': True,
    }
    prev_bev = torch.randn(1, spec.bev**2, width, device=device)
    return torch.no_grad()(lambda: head(feats, [meta], prev_bev=prev_bev))


def _head(config: str) -> nn.Module:
    from mmdet.models import build_head

    cfg = load_config(f'projects/configs/bevformer/{config}')
    head = build_head(cfg.model.pts_bbox_head)
    head.init_weights()
    with torch.no_grad():  # attention that depends on its query, unlike at initialisation
        for key, parameter in head.named_parameters():
            if 'sampling_offsets.weight' in key or 'attention_weights.weight' in key:
                parameter.normal_(std=0.05)
    return head.eval()


def profile(case: Callable[[], Any]) -> str:
    """The ten operations that take the most time of their own."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as result:
        case()
    averages = result.key_averages()
    total = sum(event.self_cpu_time_total for event in averages)
    top = sorted(averages, key=lambda event: -event.self_cpu_time_total)[:10]
    lines = [
        f'{e.self_cpu_time_total / total:6.1%} {e.self_cpu_time_total / 1e3:9.1f} ms  {e.key}' for e in top
    ]
    return '\n'.join(lines)

"""Time the dense distillation losses, forward and backward, against the same formulas in plain torch, in one process.

``python tools/benchmark/kd_losses.py --json benchmarks/kd_losses_cpu.json`` takes about ten seconds of one core.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from projects.mmdet3d_plugin.distill.losses.channel_wise_divergence import ChannelWiseDivergence
from projects.mmdet3d_plugin.distill.losses.feature_l2 import FeatureL2
from tools.benchmark.options import parse_kd_losses
from tools.benchmark.timing import interleaved, memory, save_report, start_report

TAU = 2.0
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def plain_divergence(student: Tensor, teacher: Tensor, region: Tensor) -> Tensor:
    """CWD of two (N, C, H, W) features as the formula reads."""
    n, c = student.shape[:2]
    log_s = F.log_softmax(student.flatten(2) / TAU, dim=-1)
    log_t = F.log_softmax(teacher.flatten(2) / TAU, dim=-1)
    return F.kl_div(log_s, log_t, reduction='sum', log_target=True) * TAU**2 / (n * c)


def plain_cross_entropy(student: Tensor, teacher: Tensor, region: Tensor) -> Tensor:
    """The published form of CWD of two (N, C, H, W) features."""
    n, c = student.shape[:2]
    log_s = F.log_softmax(student.flatten(2) / TAU, dim=-1)
    return -(F.softmax(teacher.flatten(2) / TAU, dim=-1) * log_s).sum() * TAU**2 / (n * c)


def plain_square(student: Tensor, teacher: Tensor, region: Tensor) -> Tensor:
    """Masked L2 of two (N, C, H, W) features: mean over channels, normalised by area."""
    return (region * (student - teacher).square().mean(1, keepdim=True)).sum() / region.sum().clamp(min=1)


def plain_published_square(student: Tensor, teacher: Tensor, region: Tensor) -> Tensor:
    """The published masked L2 of two (N, C, H, W) features."""
    return (region * student - region * teacher).square().sum() / region.sum()


CASES: dict[str, tuple[Loss, Loss]] = {
    'cwd': (plain_divergence, lambda s, t, _: ChannelWiseDivergence(TAU)(s, t)),
    'cwd_published': (plain_cross_entropy, lambda s, t, _: ChannelWiseDivergence(TAU, legacy=True)(s, t)),
    'masked_l2': (plain_square, lambda s, t, r: FeatureL2()(s, t, r)),
    'masked_l2_published': (plain_published_square, lambda s, t, r: FeatureL2(legacy=True)(s, t, r)),
}


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark from the command line and return the report."""
    args = parse_kd_losses(argv)
    report = start_report(args) | measure(tuple(args.shape), args.rounds, args.device)
    for name, row in report['losses'].items():
        print(
            f'{name:<20} plain {row["plain_ms"]:7.1f} ms {row["plain_mb"]:6.0f} MB   '
            f'ours {row["ours_ms"]:7.1f} ms {row["ours_mb"]:6.0f} MB   {row["speedup"]:5.2f}x'
        )
    print(f'{"copy of a feature":<20} {report["copy_ms"]:13.1f} ms')
    return save_report(report, args.json)


def measure(shape: tuple[int, ...], rounds: int, device: str) -> dict[str, Any]:
    """Milliseconds and peak temporary megabytes of each loss on features of a (N, C, H, W) shape."""
    torch.manual_seed(0)
    student = torch.randn(shape, device=device, requires_grad=True)
    teacher, target = torch.randn(shape, device=device), torch.empty(shape, device=device)
    region = torch.rand(shape[0], 1, *shape[2:], device=device)
    cases = {'copy': lambda: target.copy_(teacher)}
    for name, functions in CASES.items():
        plain, ours = (fn(student, teacher, region).item() for fn in functions)
        if abs(plain - ours) > 1e-5 * abs(plain):
            raise SystemExit(f'{name}: plain torch gives {plain}, we give {ours}')
        for who, fn in zip(('plain', 'ours'), functions, strict=True):
            cases[f'{name} {who}'] = partial(step, fn, student, teacher, region)
    ms = interleaved(cases, dict.fromkeys(cases, rounds), device)
    losses = {}
    for name in CASES:
        row = {f'{who}_ms': ms[f'{name} {who}'] for who in ('plain', 'ours')}
        row |= {f'{who}_mb': memory(cases[f'{name} {who}'], device).peak for who in ('plain', 'ours')}
        losses[name] = {**row, 'speedup': row['plain_ms'] / row['ours_ms']}
    return dict(shape=shape, copy_ms=ms['copy'], losses=losses)


def step(loss: Loss, student: Tensor, teacher: Tensor, region: Tensor) -> None:
    """Forward and backward of one loss; features (N, C, H, W), region (N, 1, H, W)."""
    student.grad = None
    loss(student, teacher, region).backward()

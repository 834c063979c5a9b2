#!/usr/bin/env python3
"""Time the two dense distillation losses, forward and backward, against the same formulas in plain torch.

Times are CPU seconds of this process (wall time on a GPU), medians over some runs: with ``--threads 1`` they do not
depend on what else the machine is doing.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from projects.mmdet3d_plugin.distill.losses.channel_wise import ChannelWiseDivergence
from projects.mmdet3d_plugin.distill.losses.feature_l2 import FeatureL2

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


def main() -> None:
    """Measure, print, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--shape', type=int, nargs=4, default=(1, 256, 200, 200), metavar=('N', 'C', 'H', 'W')
    )
    parser.add_argument('--runs', type=int, default=9)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--json', type=Path, help='write the figures to this file')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    report = measure(tuple(args.shape), args.runs, torch.device(args.device))
    for name, row in report['losses'].items():
        print(
            f'{name:<20} plain {row["plain_ms"]:8.1f} ms   ours {row["ours_ms"]:8.1f} ms   {row["speedup"]:5.2f}x'
        )
    print(f'{"copy of one feature":<20} {report["copy_ms"]:14.1f} ms')
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + '\n')


def measure(shape: tuple[int, ...], runs: int, device: torch.device) -> dict[str, Any]:
    """Milliseconds of each loss, plain and ours, on features of a (N, C, H, W) shape."""
    torch.manual_seed(0)
    student = torch.randn(shape, device=device, requires_grad=True)
    teacher = torch.randn(shape, device=device)
    region = torch.rand(shape[0], 1, *shape[2:], device=device)
    losses = {}
    for name, functions in CASES.items():
        values = [fn(student, teacher, region).item() for fn in functions]
        if abs(values[0] - values[1]) > 1e-4 * abs(values[0]):
            raise SystemExit(f'{name}: plain torch gives {values[0]}, we give {values[1]}')
        plain, ours = (
            median_ms(lambda fn=fn: step(fn, student, teacher, region), runs, device) for fn in functions
        )
        losses[name] = dict(plain_ms=plain, ours_ms=ours, speedup=plain / ours)
    target = torch.empty_like(teacher)
    copy = median_ms(lambda: target.copy_(teacher), runs, device)
    machine = torch.cuda.get_device_name(device) if device.type == 'cuda' else platform.processor()
    context = dict(shape=shape, threads=torch.get_num_threads(), torch=torch.__version__, machine=machine)
    return dict(**context, copy_ms=copy, losses=losses)


def step(loss: Loss, student: Tensor, teacher: Tensor, region: Tensor) -> None:
    """Forward and backward of one loss; features (N, C, H, W), region (N, 1, H, W)."""
    student.grad = None
    loss(student, teacher, region).backward()


def median_ms(fn: Callable[[], Any], runs: int, device: torch.device) -> float:
    """Median milliseconds of a function after two calls to warm up."""
    clock = time.perf_counter if device.type == 'cuda' else time.process_time
    times = []
    for _ in range(runs + 2):
        start = clock()
        fn()
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        times.append(clock() - start)
    return statistics.median(times[2:]) * 1e3


if __name__ == '__main__':
    main()

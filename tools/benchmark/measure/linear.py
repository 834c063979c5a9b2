"""Time linear layers of BEVFormer's shapes: ours (oneDNN) and ``F.linear``, in one process.

``python tools/benchmark/linear.py --json benchmarks/linear_cpu.json`` takes about a minute of one core.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from projects.mmdet3d_plugin.ops.linear import linear
from tools.benchmark.options import parse_linear
from tools.benchmark.timing import interleaved, save_report, start_report

# rows, inputs, outputs
SHAPES = {
    'base, value': (40000, 256, 256),
    'base, feed-forward in': (40000, 256, 512),
    'base, feed-forward out': (40000, 512, 256),
    'base, temporal offsets': (40000, 512, 128),
    'small, value': (22500, 256, 256),
    'FD-small, value': (10000, 256, 256),
    'tiny, value': (2500, 256, 256),
    'tiny, feed-forward out': (2500, 512, 256),
    'decoder, output': (900, 256, 256),
}


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark from the command line and return the report."""
    args = parse_linear(argv)
    report = start_report(args) | {'layers': []}
    for name in args.layers:
        for mode in ('forward', 'both'):
            row = {'layer': name, 'mode': mode, **measure(SHAPES[name], mode == 'both', args.rounds)}
            report['layers'].append(row)
            print(
                f'{name:24} {mode:8} ours {row["ms"]["ours"]:8.2f} ms, torch {row["ms"]["torch"]:8.2f} ms, '
                f'{row["ratio"]:.2f}x, {row["gflops"]:.0f} GFLOP/s',
                flush=True,
            )
    return save_report(report, args.json)


def measure(shape: tuple[int, int, int], backward: bool, rounds: int) -> dict[str, Any]:
    """Medians of one layer, their ratio, and how many operations a second ours does."""
    rows, width, out = shape
    leaves = [torch.randn(size).requires_grad_(backward) for size in ((rows, width), (out, width), (out,))]
    slope = torch.randn(rows, out)
    cases = {'ours': partial(_run, linear, leaves, slope), 'torch': partial(_run, F.linear, leaves, slope)}
    ms = interleaved(cases, dict.fromkeys(cases, rounds), 'cpu')
    operations = 2 * rows * width * out * (3 if backward else 1)
    return {'ms': ms, 'ratio': ms['torch'] / ms['ours'], 'gflops': operations / ms['ours'] / 1e6}


def _run(function: Callable[..., Tensor], leaves: list[Tensor], slope: Tensor) -> Any:
    """Forward, and backward where the inputs ask for it."""
    result = function(*leaves)
    return torch.autograd.grad(result, leaves, slope) if result.requires_grad else result

"""Time the distillation losses on a BEV feature, forward and backward: ours and plain torch, in one process.

``python tools/benchmark/losses.py --json benchmarks/losses_cpu.json``
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from projects.mmdet3d_plugin.ops.channel_wise_kl import channel_wise_kl, channel_wise_kl_torch
from projects.mmdet3d_plugin.ops.masked_l2 import masked_l2, masked_l2_torch
from tools.benchmark.timing import interleaved, machine, write_json

# multiples of plain torch, forward and backward, one CPU thread
GATES = {'channel-wise KL': 8.0, 'masked L2': 4.0}


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark from the command line and return the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--shape', type=int, nargs=4, default=[1, 256, 200, 200], metavar=('N', 'C', 'H', 'W')
    )
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--json', help='write the report here')
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    report: dict[str, Any] = {'machine': machine('cpu'), 'shape': args.shape, 'losses': []}
    print(report['machine'])
    for name, ours, plain in make_cases(tuple(args.shape)):
        cases = {'ours': ours, 'torch': plain}
        moved = 5 * 4 * torch.Size(args.shape).numel()  # both features read twice, one gradient written
        source, target = torch.randn(moved // 8), torch.empty(moved // 8)
        cases['copy'] = partial(target.copy_, source)
        times = interleaved(cases, dict.fromkeys(cases, args.rounds), 'cpu')
        row = {'loss': name, 'ms': times, 'ratio': times['torch'] / times['ours'], 'gate': GATES[name]}
        row['floor'] = times['ours'] / times['copy']
        report['losses'].append(row)
        print(
            f'{name:14} ours {times["ours"]:7.1f} ms, torch {times["torch"]:7.1f} ms, {row["ratio"]:5.1f}x '
            f'(gate {row["gate"]}), {row["floor"]:.1f} copies of the minimal bytes'
        )
    write_json(args.json, report)
    return report


def make_cases(shape: tuple[int, ...]) -> list[tuple[str, Callable[[], Any], Callable[[], Any]]]:
    """(name, ours, plain torch); each call is forward and backward."""
    torch.manual_seed(0)
    student, teacher = torch.randn(shape, requires_grad=True), torch.randn(shape)
    weight = torch.rand(shape[0], 1, *shape[2:])

    def both(loss: Callable[..., Tensor], *rest: Any) -> Callable[[], Any]:
        return lambda: torch.autograd.grad(loss(student, teacher, *rest), student)

    return [
        ('channel-wise KL', both(channel_wise_kl, 2.0), both(channel_wise_kl_torch, 2.0)),
        ('masked L2', both(masked_l2, weight), both(masked_l2_torch, weight)),
    ]


if __name__ == '__main__':
    main()

"""Time deformable attention on BEVFormer's real calls: ours, plain torch and (on CUDA) mmcv, in one process.

``python tools/benchmark/msda.py --models base --json benchmarks/msda_cpu_base.json`` takes about two minutes of one core.
``python tools/benchmark/msda.py --device cuda --json benchmarks/msda_h200.json`` is all a machine with a GPU needs.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from projects.mmdet3d_plugin.ops import library
from projects.mmdet3d_plugin.ops.ms_deform_attn import (
    ms_deform_attn,
    ms_deform_attn_fused,
    ms_deform_attn_packed,
)
from tools.benchmark.mmcv_attention import mmcv_attention, mmcv_serves
from tools.benchmark.msda_calls import MODELS, Inputs, make_inputs
from tools.benchmark.options import parse_msda
from tools.benchmark.timing import interleaved, memory, save_report, start_report

# (model, call) -> mode -> (gate, moonshot), as multiples of the plain torch path on one CPU thread
GATES = {
    ('base', 'TSA'): {'forward': (28, 45), 'both': (16, 35), 'fused forward': (25, 45)},
    ('base', 'SCA'): {'forward': (40, 70), 'both': (25, 45), 'fused forward': (45, 80)},
    **{
        (m, c): {'forward': (20, 45), 'both': (16, 35)}
        for m in ('focal-small', 'small')
        for c in ('TSA', 'SCA')
    },
    **{('tiny', c): {'forward': (12, 20), 'both': (8, 15)} for c in ('TSA', 'SCA')},
    **{(m, 'decoder'): {'forward': (12, 20), 'both': (8, 15)} for m in MODELS},
}
# against a copy of the minimal bytes
FLOORS = {'forward': (7, 3.5), 'both': (12, 5)}
DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark from the command line and return the report."""
    args = parse_msda(argv)
    report = start_report(args) | {'dtype': args.dtype, 'calls': []}
    if not library.serves(torch.empty(0, device=args.device)):
        raise SystemExit(
            f'the operators are not compiled for {args.device}; see python -m projects.mmdet3d_plugin.ops.build'
        )
    for model in args.models:
        for call in args.calls:
            inputs = make_inputs(model, call, args.device)
            inputs.value = inputs.value.to(DTYPES[args.dtype])
            for mode in args.modes:
                row = measure(model, call, mode, inputs, args)
                report['calls'].append(row)
                print(_line(row), flush=True)
    return save_report(report, args.json)


def measure(model: str, call: str, mode: str, inputs: Inputs, args: argparse.Namespace) -> dict[str, Any]:
    """Medians of one call in one mode, ratios, floor, and the memory it takes beside its results."""
    fused, backward = mode.startswith('fused'), mode.endswith('both')
    case = _case(inputs, fused, backward)
    cases: dict[str, Callable[[], Any]] = {'ours': case, 'torch': partial(_without_kernels, case)}
    if args.device == 'cuda' and not fused:
        cases |= _mmcv_case(inputs, backward) if mmcv_serves('cuda') else {}
    moved = minimal_bytes(inputs, fused, backward)
    source, target = (torch.empty(moved // 8, device=args.device).normal_() for _ in range(2))
    cases['copy'] = lambda: target.copy_(source)
    rounds = {name: args.torch_rounds if name == 'torch' else args.rounds for name in cases}
    times = interleaved(cases, rounds, args.device)
    row = {'model': model, 'call': call, 'mode': mode, 'ms': times}
    row['ratio'] = {name: times[name] / times['ours'] for name in times if name not in ('ours', 'copy')}
    row['floor'] = times['ours'] / times['copy']
    row['gate'] = GATES.get((model, call), {}).get(mode)
    names = ('ours', 'torch') if args.memory else ('ours',)
    row['temporary_mb'] = {name: memory(cases[name], args.device).temporary for name in names}
    row['temporary_mb']['allowed'] = allowed_megabytes(inputs.value, args.threads)
    return row


def _without_kernels(case: Callable[[], Any]) -> Any:
    with library.pure_torch():
        return case()


def _case(inputs: Inputs, fused: bool, backward: bool) -> Callable[[], Any]:
    """Forward, or forward and backward, of the door that the hosts call (or of the core with locations)."""
    door, args = _door(inputs, fused)
    if not backward:
        return torch.no_grad()(lambda: door(inputs.value, inputs.shapes, *args))
    leaves = [x.detach().requires_grad_() for x in (inputs.value, *args[:2])]
    rest = args[2:]
    grad: list[Tensor] = []

    def both() -> Any:
        out = door(leaves[0], inputs.shapes, *leaves[1:], *rest)
        if not grad:
            grad.append(torch.randn_like(out))
        return out.detach(), torch.autograd.grad(out, leaves, grad[0])

    return both


def _door(inputs: Inputs, fused: bool) -> tuple[Callable[..., Tensor], tuple[Tensor, ...]]:
    if not fused:
        return ms_deform_attn, (inputs.locations, inputs.weights)
    if inputs.packed is not None:
        return ms_deform_attn_packed, inputs.packed
    return ms_deform_attn_fused, (inputs.offsets, inputs.logits, inputs.references)


def _mmcv_case(inputs: Inputs, backward: bool) -> dict[str, Callable[[], Any]]:
    """mmcv's CUDA operator."""
    leaves = [
        x.detach().float().requires_grad_(backward) for x in (inputs.value, inputs.locations, inputs.weights)
    ]
    grad = torch.randn(
        *inputs.locations.shape[:2],
        inputs.value.shape[2] * inputs.value.shape[3],
        device=inputs.value.device,
    )

    def call() -> Any:
        out = mmcv_attention(leaves[0], inputs.shapes, *leaves[1:])
        return torch.autograd.grad(out, leaves, grad) if backward else out

    return {'mmcv': call}


def allowed_megabytes(value: Tensor, threads: int) -> float:
    """What a call may take beyond its results: 1 MB, and two float32 slices of one head per thread."""
    return 1 + threads * 2 * value.shape[1] * value.shape[3] * 4 / 1e6


def minimal_bytes(inputs: Inputs, fused: bool, backward: bool) -> int:
    """What must be read and written at least: inputs and output once; backward again, with gradients."""
    _, args = _door(inputs, fused)
    read = sum(t.numel() * t.element_size() for t in (inputs.value, *args))
    queries = args[0].shape[0] * args[0].shape[1]
    out = queries * inputs.value.shape[2] * inputs.value.shape[3] * inputs.value.element_size()
    forward = read + out
    return forward + (forward + read if backward else 0)


def _line(row: dict[str, Any]) -> str:
    ms, gate = row['ms'], row['gate']
    text = f'{row["model"]:12} {row["call"]:8} {row["mode"]:14}'
    text += ' '.join(f'{name} {value:9.2f} ms' for name, value in ms.items())
    text += ''.join(f'  {ratio:5.1f}x over {name}' for name, ratio in row['ratio'].items())
    text += f' (gate {gate[0]}, moonshot {gate[1]})' if gate else ''
    text += f'  {row["floor"]:4.1f} copies'
    if row['model'] == 'base' and row['mode'] in FLOORS:
        text += f' (gate {FLOORS[row["mode"]][0]})'
    spare = row['temporary_mb']
    text += f'  {spare["ours"]:.1f} MB beside the results (allowed {spare["allowed"]:.1f}'
    return text + (f', torch {spare["torch"]:.0f})' if 'torch' in spare else ')')

"""What one forward costs: parameters, multiply-accumulates and memory, without data files.

The host's adapter makes the input: black images of the cameras of a nuScenes car, or a cloud, from a file or made up
(sparse convolutions and pillar encoders do as much work as there are points). One GFLOP here is 1e9
multiply-accumulates, as in the tables of BEVFormer, PointDistiller and SparseKD. Papers count in three ways, and their
tables can only be compared with the same one:

computed
    What our code really computes: convolutions (deformable ones with their sampling, sparse ones by their pairs),
    matrix products, attention and bilinear sampling, whether a module or a function does it. Element-wise operations
    and norms are left out.

published
    The rule behind the figures of BEVFormer and PointDistiller, ``mmcv.cnn.get_model_complexity_info``: modules only,
    element-wise layers and norms included; it misses the main DCNv2 convolutions, sparse convolutions and all
    functional matrix products. BEVFormer's figures were taken on an implementation of spatial cross-attention that
    pads every camera's queries to the camera that sees most and projects the padded rows; our host projects every
    query once. For those two projections the rule is applied to the padded rows, whose number follows from the
    geometry of the run.

sparsekd
    As computed, but a transposed convolution is charged for every cell that it writes, a stride squared too much: the
    counter of fvcore did that at the time, and SparseKD's table follows it. Its activations are the elements that
    convolutions and linear layers return.
"""

import argparse
import resource
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from projects.mmdet3d_plugin.command_line.parsers import parse_complexity
from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.files import to_json, write_json
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.common.tables import make_console
from projects.mmdet3d_plugin.distill.hosts.adapter import Batch, adapter_for
from projects.mmdet3d_plugin.distill.taps import map_tensors
from projects.mmdet3d_plugin.engine import cli
from projects.mmdet3d_plugin.studies.cost.cost_rules import LayerTally, PublishedRule
from projects.mmdet3d_plugin.studies.cost.op_counter import OpCounter

GIGA, MEGA, GIBI = 1e9, 1e6, 2**30


@dataclass(frozen=True)
class Cost:
    """Cost of one part, or of the whole model.

    Attributes:
        trainable: parameters that get gradients.
        parameters: all parameters.
        computed: multiply-accumulates by our code.
        published: multiply-accumulates by the published rule.
        sparsekd: multiply-accumulates by SparseKD's rule.
        activations: elements that convolutions and linear layers return.
    """

    trainable: int
    parameters: int
    computed: int
    published: int
    sparsekd: int
    activations: int


COLUMNS: dict[str, tuple[str, Callable[[int], str]]] = {
    'trainable': ('trainable, M', lambda count: f'{count / MEGA:.3f}'),
    'parameters': ('parameters, M', lambda count: f'{count / MEGA:.3f}'),
    'computed': ('computed, GFLOPs', lambda count: f'{count / GIGA:.2f}'),
    'published': ('published rule, GFLOPs', lambda count: f'{count / GIGA:.2f}'),
    'sparsekd': ("SparseKD's rule, GFLOPs", lambda count: f'{count / GIGA:.2f}'),
    'activations': ('activations, M', lambda count: f'{count / MEGA:.1f}'),
}


@dataclass(frozen=True)
class Complexity:
    """Cost of one forward of one frame, without earlier frames.

    Attributes:
        inputs: ``images`` and ``image_shape`` (H, W) of the padded images, or ``points``.
        parts: cost of each part that the host's adapter names.
        total: their sum.
        operations: multiply-accumulates by our code, by operation.
        peak_bytes: most bytes of weights and activations alive at once, computed from shapes in fp32.
    """

    inputs: dict[str, Any]
    parts: dict[str, Cost]
    total: Cost
    operations: dict[str, int]
    peak_bytes: int


def measure_complexity(model: nn.Module, batch: Batch) -> Complexity:
    """Count one forward without doing its arithmetic.

    Modules that the adapter calls ``shape_only`` are moved to the ``meta`` device and lose their values.

    Args:
        model: a host with an adapter.
        batch: one frame, see :meth:`~projects.mmdet3d_plugin.distill.hosts.adapter.HostAdapter.blank_batch`.
    """
    adapter = adapter_for(model)
    model.eval()
    present = dict(model.named_modules())
    front = [present[path].to('meta') for path in adapter.shape_only if path in present]
    counter, parts = OpCounter(model), adapter.cost_parts(model)
    published, tally = (
        PublishedRule(model, counter, adapter.published_rows(model)),
        LayerTally(model, counter),
    )
    with ExitStack() as stack:
        stack.callback(published.remove)
        stack.callback(tally.remove)
        for part, path in parts.items():
            stack.callback(counter.watch(part, model.get_submodule(path)))
        if front:
            # what follows, such as geometry, needs a device with values, of whatever meaning
            back = front[-1].register_forward_hook(
                lambda *call: tree_map_only(Tensor, lambda tensor: torch.empty(tensor.shape), call[-1])
            )
            stack.callback(back.remove)
            batch = {**batch, 'img': batch['img'].to('meta')}
        stack.enter_context(counter.counting())
        adapter.run_for_cost(model, batch)
    trainable, parameters = _parameters_by_part(model, parts)
    costs = {}
    for name in (*parts, 'other'):
        computed = counter.macs[name].total()
        cost = Cost(
            trainable[name],
            parameters[name],
            computed,
            published.macs[name],
            computed + tally.surcharge[name],
            tally.activations[name],
        )
        if any(asdict(cost).values()):
            costs[name] = cost
    total = Cost(*(sum(getattr(cost, field.name) for cost in costs.values()) for field in fields(Cost)))
    operations = sum((counter.macs[name] for name in costs), Counter())
    sizes: dict[str, Any] = {}  # what of a batch decides its cost
    if 'img' in batch:
        sizes = dict(images=batch['img'].shape[:-3].numel(), image_shape=tuple(batch['img'].shape[-2:]))
    elif 'points' in batch:
        sizes = dict(points=sum(map(len, batch['points'])))
    return Complexity(sizes, costs, total, dict(operations.most_common()), counter.memory.peak)


def _parameters_by_part(model: nn.Module, parts: dict[str, str]) -> tuple[Counter, Counter]:
    """Trainable and all parameters of each part; a parameter belongs to its innermost part."""
    trainable, parameters = Counter(), Counter()
    innermost_first = sorted(parts.items(), key=lambda item: -len(item[1]))
    for name, parameter in model.named_parameters():
        part = next((part for part, path in innermost_first if name.startswith(f'{path}.')), 'other')
        parameters[part] += parameter.numel()
        trainable[part] += parameter.numel() * parameter.requires_grad
    return trainable, parameters


def measure_forward(model: nn.Module, batch: Batch, device: str) -> int:
    """Really detect in one frame.

    Returns:
        Peak bytes: of the allocator on a GPU, of the process's resident memory beyond its present size on a CPU.
    """
    on_gpu = torch.device(device).type == 'cuda'
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    before = pages * resource.getpagesize()
    model = model.to(device).eval()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    with torch.no_grad():
        adapter_for(model).predict(model, map_tensors(lambda tensor: tensor.to(device), batch))
    if on_gpu:
        return torch.cuda.max_memory_allocated(device)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    # ru_maxrss is in KiB on Linux; the weights were resident before
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before + weights


def complexity_table(name: str, result: Complexity, columns: Sequence[str]) -> Table:
    """Costs by part, for a terminal; columns are fields of :class:`Cost`."""
    sizes = dict(result.inputs)
    height, width = sizes.pop('image_shape', (0, 0))
    seen = ', '.join(f'{count} {what}' for what, count in sizes.items()) or 'one frame'
    title = f'{name}: {seen} of {width}x{height}' if height else f'{name}: {seen}'
    table = Table(title=title, title_justify='left')
    table.add_column('part')
    for column in columns:
        table.add_column(COLUMNS[column][0], justify='right')
    for part, cost in [*result.parts.items(), ('total', result.total)]:
        if part == 'total':
            table.add_section()
        table.add_row(part, *(COLUMNS[column][1](getattr(cost, column)) for column in columns))
    return table


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of tools/analysis_tools/get_flops.py."""
    cli.run(_report_from, parse_complexity(argv))


def _report_from(arguments: argparse.Namespace) -> None:
    """Measure and report as parsed arguments say."""
    cfg = load_config(arguments.config, arguments.cfg_options)
    model = build_model(cfg.model, caches=False)
    adapter = adapter_for(model)
    batch = adapter.blank_batch(cfg, arguments.points)
    measured = measure_forward(model, batch, arguments.device) if arguments.measure_memory else None
    if arguments.measure_memory:
        model = build_model(cfg.model, caches=False)
    result = measure_complexity(model, batch)
    content = {'config': Path(arguments.config).name, **asdict(result), 'measured_peak_bytes': measured}
    content |= content.pop('inputs')
    if arguments.json == '-':
        print(to_json(content, indent=1))
        return
    if arguments.json:
        write_json(arguments.json, content, indent=1)
    console = make_console()
    console.print(complexity_table(Path(arguments.config).stem, result, adapter.cost_columns))
    operations = ', '.join(f'{op} {macs / GIGA:.2f}' for op, macs in result.operations.items())
    console.print(f'computed, by operation: {operations}')
    console.print(
        f'peak memory of one forward, fp32, weights + activations: {result.peak_bytes / GIBI:.2f} GiB'
    )
    if measured is not None:
        console.print(f'measured in a real forward: {measured / GIBI:.2f} GiB')
    if 'points' in result.inputs:
        console.print(f'cloud: {arguments.points or "a made-up street, see --points"}')
    console.print('1 GFLOP = 1e9 multiply-accumulates. Published rule: mmcv.cnn.get_model_complexity_info.')

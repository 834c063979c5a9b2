"""What one forward of a LiDAR detector costs: parameters, multiply-accumulates and activations.

Sparse convolutions and pillar encoders do as much work as there are points, so a cloud is needed: one from a file, or a
made-up street, see :func:`street_scan`. 1 GFLOP = 1e9 multiply-accumulates. Papers count in three ways, and their
tables can only be compared with the same one:

computed
    Convolutions, dense and sparse, and matrix products, as they are carried out.

mmcv's rule
    ``mmcv.cnn.get_model_complexity_info``, behind PointDistiller's table: modules only, element-wise layers and norms
    included, sparse convolutions left out.

SparseKD's rule
    As computed, but a transposed convolution is charged for every cell that it writes, a stride squared too much: the
    counter of fvcore did that at the time, and SparseKD's table follows it. Its activations are the elements that
    convolutions and linear layers return.
"""

import argparse
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv import Config
from mmdet3d.core.bbox import LiDARInstance3DBoxes
from rich.table import Table
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.common.tables import make_console
from projects.mmdet3d_plugin.datasets.point_files import read_points as read_point_file
from projects.mmdet3d_plugin.studies.complexity import GIBI, GIGA, MEGA, PublishedRule, print_json
from projects.mmdet3d_plugin.studies.op_counter import OpCounter

_BEAMS, _COLUMNS = 64, 2083
_ELEVATION = (-24.8, 2.0)  # degrees, lowest and highest beam
_HEIGHT = 1.73  # of the sensor above the ground, metres
_WALLS = (15.0, 6.0)  # distance from the car and height above the ground of the houses on both sides, metres
_REACH = 75.0  # metres


@dataclass(frozen=True)
class LidarCost:
    """Cost of one part, or of the whole detector.

    Attributes:
        parameters: all parameters.
        computed: multiply-accumulates as carried out.
        mmcv_rule: multiply-accumulates by mmcv's rule.
        sparsekd_rule: multiply-accumulates by SparseKD's rule.
        activations: elements that convolutions and linear layers return.
    """

    parameters: int
    computed: int
    mmcv_rule: int
    sparsekd_rule: int
    activations: int


@dataclass(frozen=True)
class LidarComplexity:
    """Cost of one forward of one point cloud.

    Attributes:
        points: number of points.
        parts: cost of each of the detector's modules.
        total: their sum.
        peak_bytes: most bytes of weights and activations alive at once, in fp32.
    """

    points: int
    parts: dict[str, LidarCost]
    total: LidarCost
    peak_bytes: int


class LayerTally:
    """Watches convolutions and linear layers: what they return, and what SparseKD's rule charges too much.

    Args:
        model: what is going to run.
        counter: knows the part that runs.

    Attributes:
        activations: part -> elements.
        surcharge: part -> multiply-accumulates.
    """

    def __init__(self, model: nn.Module, counter: OpCounter) -> None:
        self.activations: Counter = Counter()
        self.surcharge: Counter = Counter()
        self._counter = counter
        self._handles = [
            module.register_forward_hook(self._book) for module in model.modules() if _is_layer(module)
        ]

    def remove(self) -> None:
        """Leave the model as it was."""
        for handle in self._handles:
            handle.remove()

    def _book(self, module: nn.Module, inputs: tuple, output: Any) -> None:
        out = (
            output if isinstance(output, Tensor) else output.features
        )  # sparse tensors have rows of features
        self.activations[self._counter.part] += out.numel()
        if isinstance(module, nn.ConvTranspose2d):
            cells = out[0, 0].numel() - inputs[0][0, 0].numel()
            self.surcharge[self._counter.part] += len(out) * cells * module.weight.numel()


def _is_layer(module: nn.Module) -> bool:
    """Whether a module is a convolution, dense or sparse, or a linear layer."""
    sparse = type(module).__name__.startswith(('SparseConv', 'SubMConv', 'SparseInverseConv'))
    dense = isinstance(module, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
    return dense or (sparse and hasattr(module, 'weight'))


def measure_lidar_complexity(model: nn.Module, points: Tensor) -> LidarComplexity:
    """Count one forward without the arithmetic of dense layers.

    Args:
        model: a detector with an adapter in ``distill/hosts``.
        points: (N, C) of one sample, as its pipeline would give them.
    """
    from projects.mmdet3d_plugin.distill.hosts.adapter import adapter_for  # that room imports this one

    model.eval()
    counter = OpCounter(model)
    published, tally = PublishedRule(model, counter), LayerTally(model, counter)
    with ExitStack() as stack:
        stack.callback(published.remove)
        stack.callback(tally.remove)
        for name, part in model.named_children():
            stack.callback(counter.watch(name, part))
        stack.enter_context(counter.counting())
        adapter_for(model).infer(
            model, dict(points=[points], img_metas=[dict(box_type_3d=LiDARInstance3DBoxes)])
        )
    return _summarise(model, len(points), counter, published.macs, tally)


def _summarise(
    model: nn.Module, points: int, counter: OpCounter, published: Counter, tally: LayerTally
) -> LidarComplexity:
    """Collect the accounts by part."""
    parts = {}
    for name, part in model.named_children():
        parameters = sum(parameter.numel() for parameter in part.parameters())
        macs = counter.macs[name].total()
        cost = LidarCost(
            parameters, macs, published[name], macs + tally.surcharge[name], tally.activations[name]
        )
        if any(asdict(cost).values()):
            parts[name] = cost
    fields = LidarCost.__dataclass_fields__
    total = LidarCost(*(sum(asdict(cost)[key] for cost in parts.values()) for key in fields))
    return LidarComplexity(points, parts, total, counter.memory.peak)


def street_scan(columns: int) -> Tensor:
    """What a spinning LiDAR of 64 beams would see in a street between houses, without anything on it.

    Args:
        columns: C, at least 3.

    Returns:
        (N, C): x, y, z in metres, LiDAR frame, x forward, and zeros.
    """
    rng = np.random.default_rng(0)
    elevation, azimuth = np.meshgrid(
        np.radians(np.linspace(*_ELEVATION, _BEAMS)),
        np.linspace(-np.pi, np.pi, _COLUMNS, endpoint=False),
        indexing='ij',
    )
    rays = np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1
    )
    ground = np.where(rays[..., 2] < 0, -_HEIGHT / np.minimum(rays[..., 2], -1e-6), np.inf)
    wall = _WALLS[0] / np.maximum(np.abs(rays[..., 1]), 1e-6)
    wall[wall * rays[..., 2] > _WALLS[1] - _HEIGHT] = np.inf
    distance = np.minimum(ground, wall) + rng.normal(0, 0.02, ground.shape)
    seen = (rays * distance[..., None])[distance < _REACH]
    return torch.from_numpy(np.pad(seen, ((0, 0), (0, columns - 3))).astype(np.float32))


def read_points(cfg: Config, path: str | None) -> Tensor:
    """The cloud to count with: of a file in the layout that the config's pipeline reads, or the made-up street.

    Returns:
        (N, C) with the columns that the detector takes.
    """
    load = _point_loader(cfg)
    taken = load['use_dim']
    taken = list(range(taken)) if isinstance(taken, int) else list(taken)
    if path is None:
        return street_scan(len(taken))
    return torch.from_numpy(read_point_file(Path(path), load['load_dim'])[:, taken])


def _point_loader(cfg: Config) -> dict[str, Any]:
    """The step of the training pipeline that loads points."""
    loaders = ('LoadPoints', 'LoadPointsFromFile')
    steps = [step for step in cfg.data.train.pipeline if step['type'] in loaders]
    if not steps:
        raise UserError(f'the training pipeline of {cfg.filename} loads no points: LoadPoints is missing')
    return steps[0]


def lidar_table(name: str, result: LidarComplexity) -> Table:
    """Costs by part, for a terminal."""
    table = Table(title=f'{name}: one cloud of {result.points} points', title_justify='left')
    columns: dict[str, Callable[[LidarCost], str]] = {
        'parameters, M': lambda cost: f'{cost.parameters / MEGA:.3f}',
        'computed, GFLOPs': lambda cost: f'{cost.computed / GIGA:.2f}',
        "mmcv's rule, GFLOPs": lambda cost: f'{cost.mmcv_rule / GIGA:.2f}',
        "SparseKD's rule, GFLOPs": lambda cost: f'{cost.sparsekd_rule / GIGA:.2f}',
        'activations, M': lambda cost: f'{cost.activations / MEGA:.1f}',
    }
    table.add_column('part')
    for column in columns:
        table.add_column(column, justify='right')
    for part, cost in [*result.parts.items(), ('total', result.total)]:
        if part == 'total':
            table.add_section()
        table.add_row(part, *(show(cost) for show in columns.values()))
    return table


def report_lidar(cfg: Config, arguments: argparse.Namespace) -> None:
    """Measure and report a LiDAR detector as the arguments of tools/analysis_tools/get_flops.py say."""
    result = measure_lidar_complexity(build_model(cfg.model), read_points(cfg, arguments.points))
    if print_json({'config': Path(arguments.config).name, **asdict(result)}, arguments.json):
        return
    console = make_console()
    console.print(lidar_table(Path(arguments.config).stem, result))
    console.print(
        f'cloud: {arguments.points or "a made-up street, see --points"}. Peak memory of one forward, fp32, weights + '
        f'activations: {result.peak_bytes / GIBI:.2f} GiB. 1 GFLOP = 1e9 multiply-accumulates.'
    )

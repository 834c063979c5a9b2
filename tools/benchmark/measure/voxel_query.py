"""Time Voxel R-CNN's voxel query at KITTI's full size: ours, plain torch, and the naive form, in one process.

``python tools/benchmark/voxel_query.py --json benchmarks/voxel_query_cpu.json`` takes about a minute of one core. The voxels
are those of SECOND's encoder on one cloud, made up unless ``--cloud`` names a file of points; the points that ask are the
6 x 6 x 6 grids of 128 boxes. The naive form looks up all 729 cells around each point in a dense table and sorts them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.datasets.blank_batch import blank_cloud
from projects.mmdet3d_plugin.hosts.two_stage.first_stage_maps import recorded_maps
from projects.mmdet3d_plugin.ops import library
from projects.mmdet3d_plugin.ops.voxel_query import CellGrid, voxel_query
from tools.benchmark.options import parse_voxel_query
from tools.benchmark.timing import interleaved, memory, save_report, start_report

CONFIG = 'projects/configs/lidar/voxel_rcnn_kitti.py'
BOXES = 128
GOAL_MS = 100.0
"""Milliseconds of one thread per frame and stage."""
_CHUNK = 216 * 16  # points whose 729 cells are looked up together


class Query(NamedTuple):
    """The arguments of one voxel query."""

    places: Tensor
    sample: Tensor
    indices: Tensor
    grid: CellGrid
    samples: int
    reach: int
    radius: float
    neighbours: int


def queries(cloud: str | None) -> dict[str, Query]:
    """The query of every stage of the encoder, by the stage's name."""
    cfg = load_config(CONFIG)
    model = build_model(cfg.model).eval()
    batch = blank_cloud(cfg, cloud)
    (features,) = model.roi_head.features
    with torch.no_grad(), recorded_maps(model, features.reads, model.prefix) as maps:
        model.bev_features(batch['points'])
    torch.manual_seed(0)
    points = batch['points'][0]
    centers = points[torch.randint(len(points), (BOXES,)), :3]
    size = torch.tensor([3.9, 1.6, 1.56]).expand(BOXES, 3)
    boxes = torch.cat([centers, size, torch.rand(BOXES, 1) * 6.28], 1)
    places = features.places(boxes).flatten(0, 1)
    sample = torch.zeros(len(places), dtype=torch.long)
    limits = features.reach, features.neighbours
    return {
        stage.map: Query(
            places, sample, maps[stage.map].indices, features.cells(stage, maps[stage.map]), 1, limits[0], stage.radius,
            limits[1],
        )
        for stage in features.stages
    }  # fmt: skip


def naive(query: Query) -> Tensor:
    """The same rows (M, K) from all 729 cells around each point, the first K by sorting."""
    table = torch.full((query.samples, *query.grid.shape), -1, dtype=torch.int32)
    table[tuple(query.indices.long().unbind(1))] = torch.arange(len(query.indices), dtype=torch.int32)
    size, origin = torch.tensor(query.grid.size), torch.tensor(query.grid.origin)
    steps = torch.arange(-query.reach, query.reach + 1)
    z, y, x = torch.meshgrid(steps, steps, steps, indexing='ij')
    offsets = torch.stack([x, y, z], 3).view(-1, 3)
    limits = torch.tensor(query.grid.shape).flip(0)
    found = []
    for places, sample in zip(query.places.split(_CHUNK), query.sample.split(_CHUNK), strict=True):
        cell = ((places - origin) / size).floor().long()[:, None] + offsets
        inside = ((cell >= 0) & (cell < limits)).all(2)
        x, y, z = cell.clamp(min=0).minimum(limits - 1).unbind(2)
        voxel = table[sample[:, None], z, y, x]
        far = ((cell + 0.5) * size + origin - places[:, None]).square().sum(2)
        near = inside & (voxel >= 0) & (far <= query.radius**2)
        order = torch.where(near, torch.arange(len(offsets)), len(offsets))
        first = order.topk(query.neighbours, largest=False).indices
        rows = torch.where(near, voxel, -1).gather(1, first)
        found.append(rows.long())
    return torch.cat(found)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark from the command line and return the report."""
    args = parse_voxel_query(argv)
    report = start_report(args) | {'goal_ms': GOAL_MS, 'boxes': BOXES, 'cloud': bool(args.cloud), 'rows': []}
    for name, query in queries(args.cloud).items():
        report['rows'].append({'stage': name, **measure(query, args.rounds)})
        print(report['rows'][-1], flush=True)
    return save_report(report, args.json)


def measure(query: Query, rounds: int) -> dict[str, Any]:
    """Milliseconds and megabytes of the three ways, and how much there was to find."""
    cases: dict[str, Callable[[], Tensor]] = {
        'ours': partial(voxel_query, *query),
        'torch': partial(_without_kernels, query),
        'naive': partial(naive, query),
    }
    found = cases['ours']()
    return {
        'voxels': len(query.indices),
        'points': len(query.places),
        'found_per_point': (found >= 0).sum(1).float().mean().item(),
        'rows_that_differ_from_naive': int((found != cases['naive']()).any(1).sum()),
        'ms': interleaved(cases, dict.fromkeys(cases, rounds), 'cpu'),
        'peak_mb': {name: memory(case, 'cpu').peak for name, case in cases.items()},
    }


def _without_kernels(query: Query) -> Tensor:
    with library.pure_torch():
        return voxel_query(*query)

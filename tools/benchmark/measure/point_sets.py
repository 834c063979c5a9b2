"""Time IA-SSD's sampling and grouping at KITTI's full size: ours and plain torch, in one process.

``python tools/benchmark/point_sets.py --json benchmarks/point_sets_cpu.json`` takes about half a minute of one core. The
calls are those of the published configuration up to its first stage that samples by scores, on one cloud of 16,384 points,
made up unless ``--cloud`` names a file.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.datasets.blank_batch import blank_cloud, thinned_cloud
from projects.mmdet3d_plugin.hosts.iassd.sampling_stage import FURTHEST
from projects.mmdet3d_plugin.ops import library
from projects.mmdet3d_plugin.ops.ball_query import ball_query
from projects.mmdet3d_plugin.ops.furthest_points import furthest_points
from tools.benchmark.options import parse_point_sets
from tools.benchmark.timing import interleaved, save_report, start_report

CONFIG = 'projects/configs/lidar/ia_ssd_kitti.py'


class Call(NamedTuple):
    """One call of an operator on one cloud.

    Args:
        name: for people.
        points: in the cloud.
        asked: points to choose, or places to look around.
        run: the call.
    """

    name: str
    points: int
    asked: int
    run: Callable[[], Tensor]


def calls(cloud: str | None) -> list[Call]:
    """The calls of the stages that spread their points evenly, in their order."""
    cfg = load_config(CONFIG)
    (points,) = thinned_cloud(cfg, blank_cloud(cfg, cloud))['points']
    places, found = points[:, :3].contiguous(), []
    for stage in cfg.model.backbone.stages:
        if stage.sample != FURTHEST:
            break
        count, number = len(places), min(stage.number, len(places))
        found.append(
            Call('furthest points', count, number, partial(furthest_points, places, [count], number))
        )
        centers = places[furthest_points(places, [count], number)]
        for radius, most in zip(stage.radii, stage.neighbours, strict=True):
            run = partial(ball_query, centers, places, [number], [count], radius, most)
            found.append(Call(f'ball query, {radius} m, {most} points', count, number, run))
        places = centers
    return found


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark from the command line and return the report."""
    args = parse_point_sets(argv)
    report = start_report(args) | {'cloud': bool(args.cloud), 'rows': []}
    for call in calls(args.cloud):
        report['rows'].append(measure(call, args.rounds))
        print(report['rows'][-1], flush=True)
    return save_report(report, args.json)


def measure(call: Call, rounds: int) -> dict[str, Any]:
    """Milliseconds of both ways, and how many rows they answer differently (rounding decides between equal distances)."""
    cases = {'ours': call.run, 'torch': partial(_without_kernels, call.run)}
    different = cases['ours']() != cases['torch']()
    return {
        'call': call.name,
        'points': call.points,
        'asked': call.asked,
        'rows_that_differ': int(different.reshape(call.asked, -1).any(1).sum()),
        'ms': interleaved(cases, dict.fromkeys(cases, rounds), 'cpu', warm_up=False),
    }


def _without_kernels(run: Callable[[], Tensor]) -> Tensor:
    with library.pure_torch():
        return run()

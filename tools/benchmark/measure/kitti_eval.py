"""Time KITTI's evaluation on CPU, on as many frames as its validation split has.

``python tools/benchmark/kitti_eval.py --json benchmarks/kitti_eval_cpu.json`` takes about a minute. With ``--mmdet3d``
the same frames go through mmdet3d's evaluation too, with our overlaps in place of its CUDA kernel; that takes minutes.
"""

import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from projects.mmdet3d_plugin.evaluation.kitti_metric import CLASSES, Annotations, evaluate_kitti
from projects.mmdet3d_plugin.evaluation.rotated_iou import rectangle_intersection, rectangle_iou
from tools.benchmark.options import parse_kitti_eval
from tools.benchmark.timing import machine, save_report

_SIZES = {'Car': (3.9, 1.56, 1.6), 'Pedestrian': (0.8, 1.73, 0.6), 'Cyclist': (1.76, 1.73, 0.6)}


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark from the command line and return the report."""
    args = parse_kitti_eval(argv)
    report = {'machine': machine('cpu'), **measure(args.frames, args.labels, args.detections, args.mmdet3d)}
    print(report['machine'])
    for name in ('ours', 'mmdet3d'):
        if name in report:
            row = report[name]
            print(
                f'{name:8s} first {row["first_s"]:6.1f} s (CPU {row["first_cpu_s"]:.1f} s)   '
                f'again {row["again_s"]:6.1f} s (CPU {row["again_cpu_s"]:.1f} s)'
            )
    print(f'peak memory {report["peak_mb"]:.0f} MB')
    if 'difference' in report:
        print(f'greatest difference in {report["compared"]} figures: {report["difference"]:.2g} points')
    return save_report(report, args.json)


def measure(frames: int, labels: int, detections: int, theirs: bool) -> dict[str, Any]:
    """Seconds of the first evaluation (loops are compiled or read from the cache) and of another one."""
    truth, found = random_frames(frames, labels, detections)
    report: dict[str, Any] = dict(frames=frames, labels=labels, detections=detections)
    report['ours'], metrics = _time(lambda: evaluate_kitti(truth, found))
    report['peak_mb'] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    report['mAP_3d_R40_moderate'] = metrics['mAP_3d_R40_moderate']
    if theirs:
        report['mmdet3d'], wanted = _time(lambda: evaluate_with_mmdet3d(truth, found))
        report['compared'] = len(wanted)
        report['difference'] = max(abs(100 * metrics[key] - value) for key, value in wanted.items())
    return report


def _time(run: Callable[[], dict[str, float]]) -> tuple[dict[str, float], dict[str, float]]:
    row = {}
    for turn in ('first', 'again'):
        begin, cpu = time.perf_counter(), time.process_time()
        metrics = run()
        row |= {f'{turn}_s': time.perf_counter() - begin, f'{turn}_cpu_s': time.process_time() - cpu}
    return row, metrics


def random_frames(
    frames: int, labels: int, detections: int, seed: int = 0
) -> tuple[list[Annotations], list[Annotations]]:
    """Labels at random places before the camera, and detections: some near a label, most of low score elsewhere."""
    rng = np.random.default_rng(seed)
    truth = [_place(rng, rng.poisson(labels)) for _ in range(frames)]
    return truth, [_detect(rng, frame, detections) for frame in truth]


def _place(rng: np.random.Generator, count: int) -> Annotations:
    """Random annotations of one frame."""
    name = rng.choice(CLASSES, count, p=[0.7, 0.2, 0.1])
    depth = rng.uniform(5, 60, count)
    location = np.column_stack([rng.uniform(-0.7, 0.7, count) * depth, np.full(count, 1.6), depth])
    dimensions = np.array([_SIZES[str(n)] for n in name]).reshape(-1, 3) * rng.normal(1, 0.05, (count, 3))
    top = np.column_stack([600 + 720 * location[:, 0] / depth, 180 + 720 * (1.6 - dimensions[:, 1]) / depth])
    size = 720 * dimensions[:, [0, 1]] / depth[:, None]
    yaw = rng.uniform(-np.pi, np.pi, count)
    return dict(
        name=name,
        truncated=np.zeros(count),
        occluded=rng.choice([0, 0, 1, 2], count),
        alpha=yaw - np.arctan2(location[:, 0], depth),
        bbox=np.hstack([top, top + size]),
        dimensions=dimensions,
        location=location,
        rotation_y=yaw,
    )


def _detect(rng: np.random.Generator, truth: Annotations, count: int) -> Annotations:
    """Nine of ten labels, moved a little, and as many other boxes as make ``count``."""
    hit = np.flatnonzero(rng.random(len(truth['name'])) < 0.9)
    other = _place(rng, max(count - len(hit), 0))
    found = {key: np.concatenate([value[hit], other[key]]) for key, value in truth.items()}
    found['location'] = found['location'] + rng.normal(0, 0.1, found['location'].shape) * [1, 0.3, 1]
    found['score'] = np.concatenate([rng.beta(4, 2, len(hit)), rng.beta(1, 6, len(other['name']))])
    return found


def evaluate_with_mmdet3d(truth: list[Annotations], found: list[Annotations]) -> dict[str, float]:
    """Per-class figures of mmdet3d's ``kitti_eval`` in points, by our names, with our overlaps in it."""
    from mmdet3d.core.evaluation.kitti_utils import eval as theirs

    def clockwise(boxes: np.ndarray) -> np.ndarray:
        return boxes * np.array([1, 1, 1, 1, -1.0])

    def volume(first: np.ndarray, second: np.ndarray, criterion: int = -1) -> np.ndarray:
        flat = [clockwise(boxes[:, [0, 2, 3, 5, 6]]) for boxes in (first, second)]
        shared = rectangle_intersection(flat[0][:, None], flat[1][None])
        theirs.d3_box_overlap_kernel(first, second, shared, criterion)
        return shared

    theirs.bev_box_overlap = lambda a, b, criterion=-1: rectangle_iou(
        clockwise(a)[:, None], clockwise(b)[None]
    )
    theirs.d3_box_overlap = volume
    _, figures = theirs.kitti_eval(truth, found, list(CLASSES), eval_types=['bbox', 'bev', '3d'])
    named = {}
    for key, value in figures.items():
        name, dimension, recall, difficulty, *strictness = key.removeprefix('KITTI/').split('_')
        if name != 'Overall':
            metric = {'2D': 'bbox', 'BEV': 'bev', '3D': '3d'}[dimension]
            suffix = '_loose' if strictness == ['loose'] else ''
            named[f'AP_{metric}_R{recall[2:]}_{difficulty}{suffix}/{name}'] = float(value)
    return named

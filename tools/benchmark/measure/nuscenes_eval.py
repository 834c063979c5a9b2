"""Time nuScenes' evaluation on CPU, ours beside the devkit's, on as many samples as the validation split has.

``python tools/benchmark/nuscenes_eval.py --json benchmarks/nuscenes_eval_cpu.json`` makes a world of tables, as many
predictions for each of its samples as asked for, and scores them from the detector's results to the metrics: with our
evaluator, without and with its cache of annotations, and with the devkit, each in a process of its own. Tables hold
key frames of the LiDAR only; nuScenes' own are twenty times larger, of which the devkit reads all.
"""

import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from nuscenes.utils.splits import val

from projects.mmdet3d_plugin.common.files import read_json, write_json
from projects.mmdet3d_plugin.evaluation.nuscenes_annotations import BIKE_RACK, NuScenesAnnotations
from projects.mmdet3d_plugin.evaluation.nuscenes_boxes import CLASSES, NuScenesBoxes
from projects.mmdet3d_plugin.evaluation.nuscenes_metric import evaluate_nuscenes
from projects.mmdet3d_plugin.evaluation.nuscenes_predictions import NuScenesPredictions
from tools.benchmark.options import parse_nuscenes_eval
from tools.benchmark.timing import machine

VERSION = 'v1.0-trainval'
STEP_US = 500_000  # between key frames
# category, an attribute, (width, length, height), share of all objects
_KINDS = (
    ('vehicle.car', 'vehicle.moving', (1.9, 4.6, 1.7), 0.40),
    ('human.pedestrian.adult', 'pedestrian.standing', (0.7, 0.7, 1.8), 0.20),
    ('movable_object.barrier', None, (2.5, 0.5, 1.0), 0.10),
    ('movable_object.trafficcone', None, (0.4, 0.4, 1.1), 0.08),
    ('vehicle.truck', 'vehicle.parked', (2.5, 6.9, 2.9), 0.07),
    ('vehicle.bicycle', 'cycle.without_rider', (0.6, 1.7, 1.3), 0.04),
    ('vehicle.motorcycle', 'cycle.with_rider', (0.8, 2.1, 1.5), 0.03),
    ('vehicle.bus.rigid', 'vehicle.stopped', (2.9, 11.0, 3.5), 0.02),
    ('vehicle.trailer', 'vehicle.parked', (2.9, 12.0, 3.9), 0.02),
    ('static_object.bicycle_rack', None, (2.5, 9.0, 1.5), 0.02),
    ('animal', None, (0.4, 0.8, 0.6), 0.02),  # of no class; and there are no construction vehicles
)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark from the command line and return the report."""
    args = parse_nuscenes_eval(argv)
    report = {'machine': machine('cpu'), **measure(args.samples, args.objects, args.predictions)}
    print(report['machine'])
    for name, title in (
        ('first', 'ours, from the tables'),
        ('cached', 'ours, from the cache'),
        ('devkit', 'the devkit'),
    ):
        row = report[name]
        print(
            f'{title:22s} CPU {row["cpu_s"]:7.1f} s   peak memory {row["peak_mb"]:6.0f} MB more than the predictions'
        )
    print(
        f'devkit / ours: {report["ratio_first"]:.1f} from the tables, {report["ratio_cached"]:.1f} from the cache'
    )
    print(f'greatest difference in {report["compared"]} figures: {report["difference"]:.2g}')
    if args.json:
        write_json(args.json, report, indent=2)
    return report


def measure(samples: int, objects: int, predictions: int) -> dict[str, Any]:
    """CPU seconds and peak memory of both evaluators, and the greatest difference between their figures."""
    report: dict[str, Any] = dict(objects=objects, predictions=predictions)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        infos = write_tables(root, samples, objects)
        report['samples'] = len(infos)
        results = random_results(root, infos, predictions)
        for name, evaluator in (('first', 'arrays'), ('cached', 'arrays'), ('devkit', 'devkit')):
            report[name] = _in_a_process(partial(_evaluate, root / name, root, infos, results, evaluator))
        ours, theirs = (
            _numbers(read_json(root / name / 'metrics_summary.json')) for name in ('cached', 'devkit')
        )
    for name in ('first', 'cached'):
        report[f'ratio_{name}'] = report['devkit']['cpu_s'] / report[name]['cpu_s']
    report['compared'] = len(theirs)
    report['difference'] = max(abs(ours[key] - value) for key, value in theirs.items())
    return report


def _evaluate(out_dir: Path, root: Path, infos: list, results: list, evaluator: str) -> None:
    """From results to metrics and, as ``tools/test.py`` does, to a submission file."""
    predictions = NuScenesPredictions.from_results(results, infos, CLASSES)
    evaluate_nuscenes(predictions, root, VERSION, 'val', out_dir, evaluator=evaluator)


def _numbers(summary: dict[str, Any], prefix: str = '') -> dict[str, float]:
    """Every number of a metrics_summary.json but the time it took; what is not defined is left out."""
    found: dict[str, float] = {}
    for key, value in summary.items():
        if isinstance(value, dict):
            found |= _numbers(value, f'{prefix}{key}/')
        elif isinstance(value, int | float) and key != 'eval_time':
            found[prefix + key] = float(value)
    return found


def _in_a_process(run: Callable[[], Any]) -> dict[str, float]:
    """CPU seconds of a call, and the megabytes that it took beyond what was there before."""
    fork = multiprocessing.get_context('fork')
    receiver, sender = fork.Pipe(duplex=False)

    def work() -> None:
        before, begin = _resident_mb(), time.process_time()
        run()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        sender.send(dict(cpu_s=time.process_time() - begin, peak_mb=max(peak - before, 0.0)))

    process = fork.Process(target=work)
    process.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        process.join()


def _resident_mb() -> float:
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(float(line.split()[1]) / 1e3 for line in lines if line.startswith('VmRSS'))


def write_tables(root: Path, samples: int, objects: int, seed: int = 0) -> list[dict[str, Any]]:
    """Tables of a world of scenes of 40 samples, or more where the validation split has too few scenes, in which cars drive and bicycles stand in racks.

    Some objects are seen once, so that their velocity is not known; some have no attribute, and some no point.

    Args:
        root: made when it is not there.
        samples: in all scenes.
        objects: annotations per sample, on average.
        seed: of the chance in it.

    Returns:
        The samples as an info file has them, without images.
    """
    rng = np.random.default_rng(seed)
    tables = _fixed_tables()
    infos: list[dict[str, Any]] = []
    length = max(40, -(-samples // len(val)))
    for start, name in zip(range(0, samples, length), val, strict=False):
        frames = _add_samples(tables, rng, name, min(length, samples - start))
        infos += frames
        for _ in range(2 * objects):  # each is there half of the time
            _add_object(tables, rng, frames)
    (root / 'maps').mkdir(parents=True)
    cv2.imwrite(str(root / 'maps/map.png'), np.zeros((4, 4), np.uint8))
    for name, rows in tables.items():
        write_json(root / VERSION / f'{name}.json', rows, sync=False)
    return infos


def _fixed_tables() -> dict[str, list[dict[str, Any]]]:
    named = {kind[1] for kind in _KINDS if kind[1]}
    straight = dict(translation=[0.0, 0.0, 0.0], rotation=[1.0, 0.0, 0.0, 0.0])
    rows = dict(
        category=[dict(token=kind[0], name=kind[0]) for kind in _KINDS],
        attribute=[dict(token=name, name=name) for name in sorted(named)],
        visibility=[dict(token='4', level='v80-100')],
        sensor=[dict(token='lidar', channel='LIDAR_TOP', modality='lidar')],
        calibrated_sensor=[dict(token='lidar', sensor_token='lidar', camera_intrinsic=[], **straight)],
        log=[dict(token='log')],
        map=[dict(token='map', filename='maps/map.png', log_tokens=['log'])],
    )
    return rows | {
        name: [] for name in ('instance', 'ego_pose', 'scene', 'sample', 'sample_data', 'sample_annotation')
    }


def _add_samples(
    tables: dict[str, list], rng: np.random.Generator, name: str, count: int
) -> list[dict[str, Any]]:
    """A scene in which the car drives straight on; returns its samples as an info file has them."""
    start, heading, speed = rng.uniform(300, 2000, 2), rng.uniform(-np.pi, np.pi), rng.uniform(0, 12)
    rotation = [np.cos(heading / 2), 0.0, 0.0, np.sin(heading / 2)]
    way = speed * STEP_US * 1e-6 * np.array([np.cos(heading), np.sin(heading)])
    tables['scene'].append(dict(token=name, name=name, log_token='log'))
    infos = []
    for index in range(count):
        token, place = rng.bytes(16).hex(), [*(start + index * way).tolist(), 0.0]
        tables['sample'].append(
            dict(token=token, timestamp=index * STEP_US, scene_token=name, prev='', next='')
        )
        tables['ego_pose'].append(dict(token=token, timestamp=0, translation=place, rotation=rotation))
        tables['sample_data'].append(
            dict(
                token=token,
                sample_token=token,
                ego_pose_token=token,
                calibrated_sensor_token='lidar',
                is_key_frame=True,
            )
        )
        infos.append(
            dict(
                token=token,
                lidar2ego_translation=[0.0, 0.0, 0.0],
                lidar2ego_rotation=[1.0, 0.0, 0.0, 0.0],
                ego2global_translation=place,
                ego2global_rotation=rotation,
            )
        )
    return infos


def _add_object(tables: dict[str, list], rng: np.random.Generator, frames: list[dict[str, Any]]) -> None:
    """An object in half of the frames of a scene, or in one, around where the car is then; a rack has bicycles."""
    category, attribute, size, _ = _KINDS[rng.choice(len(_KINDS), p=[kind[3] for kind in _KINDS])]
    length = 1 if rng.random() < 0.1 else max(1, len(frames) // 2)
    first = int(rng.integers(len(frames) - length + 1))
    there = frames[first : first + length]
    place = there[len(there) // 2]['ego2global_translation'] + np.append(rng.normal(0, 22, 2), 1)
    heading = rng.uniform(-np.pi, np.pi)
    moving = attribute in ('vehicle.moving', 'cycle.with_rider')
    way = moving * rng.uniform(1, 10) * STEP_US * 1e-6 * np.array([np.cos(heading), np.sin(heading), 0])
    boxes = [(category, attribute, size, place, way)]
    if category.endswith('rack'):
        kind = next(k for k in _KINDS if k[0] == 'vehicle.bicycle')
        boxes += [(*kind[:3], place + np.append(rng.normal(0, 1.5, 2), 0), way) for _ in range(4)]
    for box in boxes:
        _add_track(tables, rng, there, *box, heading)


def _add_track(
    tables: dict[str, list],
    rng: np.random.Generator,
    frames: list[dict[str, Any]],
    category: str,
    attribute: str | None,
    size: tuple[float, ...],
    place: np.ndarray,
    way: np.ndarray,
    heading: float,
) -> None:
    """Annotations of one object, which goes ``way`` metres from one frame to the next."""
    instance = rng.bytes(16).hex()
    tables['instance'].append(dict(token=instance, category_token=category))
    tokens = ['', *(rng.bytes(16).hex() for _ in frames), '']
    grown = (np.array(size) * rng.uniform(0.8, 1.2, 3)).round(3).tolist()
    attributes = [attribute] if attribute and rng.random() < 0.95 else []
    for index, frame in enumerate(frames):
        tables['sample_annotation'].append(
            dict(
                token=tokens[index + 1],
                sample_token=frame['token'],
                instance_token=instance,
                visibility_token='4',
                attribute_tokens=attributes,
                translation=(place + (index - len(frames) // 2) * way).round(3).tolist(),
                size=grown,
                rotation=[np.cos(heading / 2), 0.0, 0.0, np.sin(heading / 2)],
                prev=tokens[index],
                next=tokens[index + 2],
                num_lidar_pts=int(rng.poisson(2.5)),
                num_radar_pts=0,
            )
        )


def random_results(
    root: Path, infos: list[dict[str, Any]], count: int, seed: int = 1
) -> list[dict[str, Any]]:
    """What a detector could find: nine of ten objects, moved a little, some twice, and others of low score.

    Scores have two digits, so that many are equal.

    Args:
        root: folder of :func:`write_tables`.
        infos: its samples.
        count: predictions per sample.
        seed: of the chance in it.
    """
    rng = np.random.default_rng(seed)
    known = NuScenesAnnotations.load(root, VERSION, root / 'for_predictions')
    annotations = known.of_samples([info['token'] for info in infos])
    objects = annotations.take(annotations.label != BIKE_RACK)
    rows = np.split(np.arange(len(objects)), np.searchsorted(objects.sample, np.arange(1, len(infos))))
    return [_find(rng, info, objects.take(own), count) for info, own in zip(infos, rows, strict=True)]


def _find(
    rng: np.random.Generator, info: dict[str, Any], objects: NuScenesBoxes, count: int
) -> dict[str, Any]:
    """The result for one sample, in the LiDAR frame."""
    from mmdet3d.core.bbox import LiDARInstance3DBoxes

    hit = rng.permutation(np.repeat(np.flatnonzero(rng.random(len(objects)) < 0.9), 2))[:count]
    rest = count - len(hit)
    near = _in_lidar_frame(objects.take(hit), info)
    near = near + rng.normal(0, 1, near.shape) * [0.4, 0.4, 0.1, 0.1, 0.1, 0.1, 0.2, 0.5, 0.5]
    near[:, 3:6] = np.abs(near[:, 3:6]) + 0.05
    low = [-55, -55, -2, 0.3, 0.3, 0.3, -3.1, -5, -5]
    far = rng.uniform(low, [55, 55, 2, 5, 5, 3, 3.1, 5, 5], (rest, 9))
    scores = np.concatenate([rng.beta(4, 2, len(hit)), rng.beta(1, 6, rest)]).round(2)
    labels = np.concatenate([objects.label[hit], rng.integers(0, len(CLASSES), rest)])
    boxes = torch.tensor(np.vstack([near, far]), dtype=torch.float32)
    return dict(
        boxes_3d=LiDARInstance3DBoxes(boxes, box_dim=9, origin=(0.5, 0.5, 0.5)),
        scores_3d=torch.tensor(scores, dtype=torch.float32),
        labels_3d=torch.tensor(labels),
    )


def _in_lidar_frame(boxes: NuScenesBoxes, info: dict[str, Any]) -> np.ndarray:
    """Boxes (n, 9): centre, length, width, height, yaw, velocity, where the LiDAR stands in the middle of the car."""
    w, _, _, z = info['ego2global_rotation']
    heading = 2 * np.arctan2(z, w)
    c, s = np.cos(heading), np.sin(heading)
    turn = np.array([[c, -s], [s, c]])
    centre = boxes.translation - info['ego2global_translation']
    yaw = 2 * np.arctan2(boxes.rotation[:, 3], boxes.rotation[:, 0]) - heading
    return np.column_stack(
        [
            centre[:, :2] @ turn,
            centre[:, 2],
            boxes.size[:, [1, 0, 2]],
            yaw,
            np.nan_to_num(boxes.velocity) @ turn,
        ]
    )

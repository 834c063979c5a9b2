import copy

import numpy as np
import pytest

from projects.mmdet3d_plugin import compat
from projects.mmdet3d_plugin.evaluation.kitti_metric import CLASSES, DIFFICULTIES, evaluate_kitti
from projects.mmdet3d_plugin.evaluation.rotated_iou import rectangle_intersection, rectangle_iou
from tests.evaluation.kitti_reference import Reference, average, random_frames

LEAST = {'Car': (0.7, 0.5), 'Pedestrian': (0.5, 0.25), 'Cyclist': (0.5, 0.25)}
FRAMES = random_frames(1, 20)


@pytest.fixture(scope='module')
def metrics() -> dict[str, float]:
    return evaluate_kitti(*FRAMES)


@pytest.mark.parametrize('kind', ['bbox', 'bev', '3d'])
def test_equals_the_protocol_written_out(kind: str, metrics: dict[str, float]) -> None:
    values = []
    for name in CLASSES:
        for level in DIFFICULTIES:
            reference = Reference(*FRAMES, kind, name, level)
            for suffix, least in zip(('', '_loose'), LEAST[name], strict=True):
                reference.least = LEAST[name][0] if kind == 'bbox' else least
                precision, orientation = reference.curves()
                for recall in ('R40', 'R11'):
                    key = f'{recall}_{level}{suffix}/{name}'
                    values.append(average(precision, recall))
                    assert metrics[f'AP_{kind}_{key}'] == pytest.approx(values[-1], abs=1e-9), key
                    if kind == 'bbox':
                        wanted = average(orientation, recall)
                        assert metrics[f'AP_aos_{key}'] == pytest.approx(wanted, abs=1e-9), key
    telling = [value for value in values if 0.02 < value < 0.98]  # neither hopeless nor trivial
    assert len(telling) > len(values) / 3


def test_equals_mmdet3d_where_that_gets_overlaps_from_us(
    metrics: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    compat.apply()
    from mmdet3d.core.evaluation.kitti_utils import eval as theirs

    def on_ground(boxes: np.ndarray) -> np.ndarray:
        return boxes * np.array([1, 1, 1, 1, -1.0])  # in the camera's frame yaw turns clockwise

    def bev(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return rectangle_iou(on_ground(first)[:, None], on_ground(second)[None])

    def volume(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        flat = [on_ground(boxes[:, [0, 2, 3, 5, 6]]) for boxes in (first, second)]
        shared = rectangle_intersection(flat[0][:, None], flat[1][None])
        theirs.d3_box_overlap_kernel.py_func(first, second, shared)
        return shared

    monkeypatch.setattr(theirs, 'bev_box_overlap', bev)
    monkeypatch.setattr(theirs, 'd3_box_overlap', volume)
    for name in ('compute_statistics_jit', 'fused_compute_statistics', 'image_box_overlap', 'get_thresholds'):
        monkeypatch.setattr(
            theirs, name, getattr(theirs, name).py_func
        )  # compiling takes longer than running
    truth, found = (copy.deepcopy(frames) for frames in FRAMES)
    _, wanted = theirs.kitti_eval(truth, found, list(CLASSES), eval_types=['bbox', 'bev', '3d'])
    checked = 0
    for key, value in wanted.items():
        name, dimension, recall, difficulty, *strictness = key.removeprefix('KITTI/').split('_')
        if name != 'Overall':
            metric = {'2D': 'bbox', 'BEV': 'bev', '3D': '3d'}[dimension]
            suffix = '_loose' if strictness == ['loose'] else ''
            ours = metrics[f'AP_{metric}_R{recall[2:]}_{difficulty}{suffix}/{name}']
            assert 100 * ours == pytest.approx(value, abs=1e-6), key
            checked += 1
    assert checked == 108


def _perfect(count: int) -> tuple[list[dict], list[dict]]:
    """Frames of one big visible car each, and detections that equal them."""
    frames = [
        dict(
            name=np.array(['Car']),
            truncated=np.zeros(1),
            occluded=np.zeros(1),
            alpha=np.array([0.3]),
            bbox=np.array([[100.0, 100, 200, 180]]),
            dimensions=np.array([[4.0, 1.5, 1.7]]),
            location=np.array([[1.0, 1.6, 10 + i]]),
            rotation_y=np.array([0.4]),
        )
        for i in range(count)
    ]
    scores = np.linspace(0.1, 0.9, count)
    return frames, [dict(frame, score=scores[i : i + 1]) for i, frame in enumerate(frames)]


def test_the_truth_itself_scores_one() -> None:
    metrics = evaluate_kitti(*_perfect(60), classes=['Car'])
    assert len(metrics) == 4 * 2 * 3 * 2 * 2
    assert all(value == pytest.approx(1) for value in metrics.values())


def test_orientation_half_a_turn_off_scores_nothing_and_a_quarter_half() -> None:
    for turn, wanted in ((np.pi, 0.0), (np.pi / 2, 0.5)):
        truth, found = _perfect(50)
        for frame in found:
            frame['alpha'] = frame['alpha'] + turn
        metrics = evaluate_kitti(truth, found, ['Car'])
        assert metrics['AP_aos_R40_easy/Car'] == pytest.approx(wanted)
        assert metrics['AP_bbox_R40_easy/Car'] == pytest.approx(1)


def test_unknown_alpha_gives_no_orientation_score() -> None:
    truth, found = _perfect(3)
    found[1]['alpha'] = np.array([-10.0])
    metrics = evaluate_kitti(truth, found, ['Car'])
    assert np.isnan(metrics['AP_aos_R40_easy/Car'])
    assert not np.isnan(metrics['AP_bbox_R40_easy/Car'])


def test_classes_without_objects_are_left_out_of_the_mean() -> None:
    metrics = evaluate_kitti(*_perfect(60))
    assert np.isnan(metrics['AP_3d_R40_easy/Cyclist'])
    assert metrics['mAP_3d_R40_easy'] == pytest.approx(1)


def test_frames_without_anything_do_not_matter() -> None:
    truth, found = _perfect(45)
    empty = {key: value[:0] for key, value in found[0].items()}
    assert evaluate_kitti([empty, *truth], [empty, *found], ['Car']) == evaluate_kitti(truth, found, ['Car'])
    nothing = evaluate_kitti(truth, [empty] * 45, ['Car'])
    assert nothing['AP_3d_R40_easy/Car'] == 0


def test_mistakes_of_the_caller_are_named() -> None:
    truth, found = _perfect(2)
    with pytest.raises(ValueError, match='1 predictions for 2 frames'):
        evaluate_kitti(truth, found[:1])
    with pytest.raises(ValueError, match='there are no frames'):
        evaluate_kitti([], [])
    with pytest.raises(ValueError, match="no protocol for class 'Tram'"):
        evaluate_kitti(truth, found, ['Tram'])
    found[0]['score'] = np.array([np.nan])
    with pytest.raises(ValueError, match='diverged'):
        evaluate_kitti(truth, found)

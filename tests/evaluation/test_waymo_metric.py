import numpy as np
import pytest

from projects.mmdet3d_plugin.evaluation.waymo_metric import average_precision, evaluate_waymo

VEHICLE = np.array([0.0, 0, 1, 4, 2, 1.5, 0.3])


def _boxes(places: tuple[float, ...], turn: float = 0.0) -> np.ndarray:
    return np.array([[x, *VEHICLE[1:6], VEHICLE[6] + turn] for x in places]).reshape(-1, 7)


def _truth(*places: float, points: list[int] | None = None, name: str = 'Vehicle', **more: list) -> dict:
    """Boxes side by side at some x, metres."""
    boxes = _boxes(places)
    return dict(boxes=boxes, names=[name] * len(boxes), num_points=points or [100] * len(boxes), **more)


def _found(*places: float, scores: list[float], turn: float = 0.0, name: str = 'Vehicle') -> dict:
    boxes = _boxes(places, turn)
    return dict(boxes=boxes, names=[name] * len(boxes), scores=scores)


def test_area_below_a_curve() -> None:
    assert average_precision(np.array([0.1]), np.array([0.2])) == pytest.approx(0.1 * 0.2)
    # a wide gap: precision falls within 0.05 of recall, then stays
    wide = 0.1 * 0.2 + 0.05 * 0.8 + (0.1 - 0.05) * 0.05 / 2
    assert average_precision(np.array([0.1, 0.05]), np.array([0.2, 1.0])) == pytest.approx(wide)
    # a dip counts for nothing: more recall at more precision is to be had
    assert average_precision(np.array([0.1, 0.0, 0.05]), np.array([0.2, 0.4, 1.0])) == pytest.approx(wide)
    # a narrow one: a straight line
    narrow = 0.5 * 0.9 + (0.9 + 0.7) / 2 * 0.04
    assert average_precision(np.array([0.7, 0.9]), np.array([0.54, 0.5])) == pytest.approx(narrow)


def test_the_truth_scores_one() -> None:
    metrics = evaluate_waymo([_truth(0, 10)], [_found(0, 10, scores=[0.9, 0.4])])
    assert metrics['AP_L1/Vehicle'] == pytest.approx(1)
    assert metrics['mAPH_L2'] == pytest.approx(1)
    assert np.isnan(metrics['AP_L1/Cyclist'])


def test_one_hit_one_miss_one_false_alarm() -> None:
    metrics = evaluate_waymo([_truth(0, 10)], [_found(0, 30, scores=[0.9, 0.4])])
    # up to 0.4: precision 1/2 at recall 1/2; up to 0.9: 1 at 1/2; above: nothing found, which is precision 1 at recall 0
    assert metrics['AP_L2/Vehicle'] == pytest.approx(0.5)
    # the false alarm scores higher: precision is never better than 1/2 where something is found
    metrics = evaluate_waymo([_truth(0, 10)], [_found(0, 30, scores=[0.4, 0.9])])
    assert metrics['AP_L2/Vehicle'] == pytest.approx(0.5 * 0.5 + (1 - 0.5) * 0.05 / 2)


@pytest.mark.parametrize(('turn', 'weight'), [(0, 1), (np.pi, 0), (-np.pi, 0), (2 * np.pi, 1)])
def test_heading_weighs_hits(turn: float, weight: float) -> None:
    metrics = evaluate_waymo([_truth(0)], [_found(0, scores=[1.0], turn=turn)])
    assert metrics['AP_L1/Vehicle'] == pytest.approx(1)
    assert metrics['APH_L1/Vehicle'] == pytest.approx(weight)


def test_heading_a_tenth_off() -> None:
    square = dict(_truth(0), boxes=np.array([[0.0, 0, 1, 3, 3, 1.5, 0.0]]))
    found = dict(_found(0, scores=[1.0]), boxes=np.array([[0.0, 0, 1, 3, 3, 1.5, np.pi / 2]]))
    assert evaluate_waymo([square], [found])['APH_L1/Vehicle'] == pytest.approx(0.5)


def test_levels() -> None:
    truth = [_truth(0, 10, 20, 30, points=[100, 5, 100, 0], difficulty=[0, 0, 2, 0])]
    metrics = evaluate_waymo(truth, [_found(0, scores=[1.0])])
    assert metrics['AP_L1/Vehicle'] == pytest.approx(1)  # the others are hard, or have no points
    assert metrics['AP_L2/Vehicle'] == pytest.approx(1 / 3)
    metrics = evaluate_waymo(truth, [_found(10, scores=[1.0])])
    # a hard object that is found is a hit at LEVEL_1 too, as in Waymo's own code
    assert metrics['AP_L1/Vehicle'] == pytest.approx(1 / 2)
    assert metrics['AP_L2/Vehicle'] == pytest.approx(1 / 3)


def test_matching_is_the_best_for_the_frame() -> None:
    # The first detection overlaps both labels, the second only one of them: taken greedily, one would be lost.
    metrics = evaluate_waymo(
        [_truth(0, 0.7, name='Cyclist')], [_found(0.3, 0.9, scores=[0.9, 0.8], name='Cyclist')]
    )
    assert metrics['AP_L1/Cyclist'] == pytest.approx(1)


def test_overlap_depends_on_the_class() -> None:
    shifted = 4 * (1 - 0.6) / (1 + 0.6)  # metres along the box for an IoU of 0.6
    for name, wanted in (('Vehicle', 0), ('Pedestrian', 1)):
        boxes = [
            VEHICLE * [1, 1, 1, 1, 1, 1, 0],
            VEHICLE * [1, 1, 1, 1, 1, 1, 0] + [shifted, 0, 0, 0, 0, 0, 0],
        ]
        truth = dict(boxes=boxes[:1], names=[name], num_points=[50])
        found = dict(boxes=boxes[1:], names=[name], scores=[1.0])
        assert evaluate_waymo([truth], [found])[f'AP_L1/{name}'] == pytest.approx(wanted)


def test_frames_add_up_and_empty_ones_are_fine() -> None:
    nothing = dict(boxes=np.zeros((0, 7)), names=[], num_points=[], scores=[])
    metrics = evaluate_waymo([_truth(0), nothing, _truth(5)], [_found(0, scores=[0.5]), nothing, nothing])
    assert metrics['AP_L1/Vehicle'] == pytest.approx(0.5)
    assert all(np.isnan(value) for value in evaluate_waymo([nothing], [nothing]).values())
    with pytest.raises(ValueError, match='0 predictions for 1 frames'):
        evaluate_waymo([nothing], [])

"""KITTI's average precision against numbers worked out by hand from the protocol, without code of ours or mmdet3d's.

With few objects, each hit gives one threshold and one point of the curve: two hits of two objects have points 0 and 1 of
41, so that AP over R40, which leaves point 0 out, is the precision at the lower score divided by 40.
"""

import math

import numpy as np
import pytest

from projects.mmdet3d_plugin.evaluation.kitti_metric import evaluate_kitti

Row = dict


def _box(name: str = 'Car', at: float = 0, score: float | None = None, **changes: object) -> Row:
    """An object 4 m long, 2 m wide and high, ``at`` times 10 m ahead and 100 pixels to the right; plainly visible."""
    row = dict(
        name=name,
        truncated=0.0,
        occluded=0,
        alpha=0.0,
        bbox=[100.0 * at, 100, 100.0 * at + 80, 200],
        dimensions=[4.0, 2, 2],
        location=[0.0, 1, 10 + 10 * at],
        rotation_y=0.0,
    )
    return {**row, **({} if score is None else {'score': score}), **changes}


def _score(truth: list[Row], found: list[Row], classes: list[str] | None = None, **kwargs: object) -> dict:
    keys = ('name', 'truncated', 'occluded', 'alpha', 'bbox', 'dimensions', 'location', 'rotation_y', 'score')
    frames = [
        {key: np.array([row[key] for row in rows]) for key in keys if key in rows[0]}
        for rows in (truth, found)
    ]
    return evaluate_kitti(*([frame] for frame in frames), classes or ['Car'], **kwargs)


def _all(metrics: dict, level: str = 'easy', name: str = 'Car') -> list[float]:
    """AP over R40 times 40 of the image box, from above and in space."""
    return [40 * metrics[f'AP_{kind}_R40_{level}/{name}'] for kind in ('bbox', 'bev', '3d')]


TWO = [_box(at=0), _box(at=1)]
HITS = [_box(at=0, score=0.9), _box(at=1, score=0.7)]


def test_two_hits() -> None:
    metrics = _score(TWO, HITS)
    assert _all(metrics) == pytest.approx([1, 1, 1])
    assert metrics['AP_3d_R11_easy/Car'] == pytest.approx(1 / 11)  # point 0 alone
    assert metrics['AP_aos_R40_easy/Car'] == pytest.approx(1 / 40)


@pytest.mark.parametrize(
    ('truth', 'wanted'),
    [
        ([], [2 / 3, 2 / 3, 2 / 3]),  # a false alarm: two hits of three
        ([_box('Truck', at=2)], [2 / 3, 2 / 3, 2 / 3]),  # of another class it is one too
        ([_box('Van', at=2)], [1, 1, 1]),  # too like a car to be a mistake
        ([_box('van', at=2)], [1, 1, 1]),
        ([_box('DontCare', at=2)], [1, 2 / 3, 2 / 3]),  # has an image box and no other
        ([_box('Car', at=2, occluded=1)], [1, 1, 1]),  # hidden too much for easy
        ([_box('Car', at=2, truncated=0.2)], [1, 1, 1]),
        ([_box('Car', at=2, bbox=[200.0, 100, 280, 140])], [1, 1, 1]),  # 40 pixels high is not above 40
    ],
)
def test_what_a_third_detection_may_hit(truth: list[Row], wanted: list[float]) -> None:
    third = _box(at=2, score=0.8)
    if truth and truth[0]['bbox'][3] == 140:
        third['bbox'] = truth[0]['bbox']
    assert _all(_score([*TWO, *truth], [*HITS, third])) == pytest.approx(wanted)


def test_difficulties_count_what_is_hidden_or_cut_off_or_small() -> None:
    harder = [_box(at=2, occluded=1), _box(at=3, truncated=0.4), _box(at=4, occluded=3)]
    found = [*HITS, *(_box(at=at, score=0.5 - at / 100) for at in (2, 3, 4))]
    metrics = _score([*TWO, *harder], found)
    # two, three and four objects are to be found and are found; the last counts nowhere
    assert [_all(metrics, level)[2] for level in ('easy', 'moderate', 'hard')] == pytest.approx([1, 2, 3])
    missing = _score([*TWO, *harder], found[:2])
    assert [_all(missing, level)[2] for level in ('easy', 'moderate', 'hard')] == pytest.approx([1, 1, 1])


def test_a_small_detection_is_neither_right_nor_wrong() -> None:
    small = _box(at=2, score=0.8, bbox=[200.0, 100, 280, 139])
    metrics = _score([*TWO, _box(at=5, occluded=1)], [*HITS, small])
    assert _all(metrics) == pytest.approx([1, 1, 1])
    assert _all(metrics, 'moderate') == pytest.approx([2 / 3, 2 / 3, 2 / 3])  # 39 pixels are more than 25


def test_of_two_detections_of_one_object_one_is_a_false_alarm() -> None:
    twice = [*HITS, _box(at=1, score=0.7)]  # a tie
    assert _all(_score(TWO, twice)) == pytest.approx([2 / 3, 2 / 3, 2 / 3])
    better = [*HITS[:1], _box(at=1, score=0.7, alpha=math.pi, location=[0.3, 1, 20]), HITS[1]]
    metrics = _score(TWO, [dict(row, bbox=[110.0, 100, 180, 200]) if row['alpha'] else row for row in better])
    # the one that overlaps more is the hit; its heading is right: (1 + 1) / 3
    assert metrics['AP_aos_R40_easy/Car'] == pytest.approx(2 / 3 / 40)


def test_orientation_weighs_hits() -> None:
    turned = [HITS[0], _box(at=1, score=0.7, alpha=math.pi / 2)]
    metrics = _score(TWO, turned)
    assert metrics['AP_aos_R40_easy/Car'] == pytest.approx((1 + 0.5) / 2 / 40)
    assert metrics['AP_bbox_R40_easy/Car'] == pytest.approx(1 / 40)


def test_an_overlap_must_be_exceeded() -> None:
    truth = [_box(at=0), _box(at=1, bbox=[100.0, 100, 200, 200])]
    for height, hit in ((70, False), (71, True)):  # 0.70 and 0.71 of the label's image box
        found = [HITS[0], _box(at=1, score=0.7, bbox=[100.0, 100, 200, 100 + height])]
        assert _all(_score(truth, found))[0] == pytest.approx(float(hit))


@pytest.mark.parametrize(
    ('changes', 'bev', 'space'),
    [
        # moved by 0.6 m: 3.4 / 4.6 = 0.739; by 0.8 m: 3.2 / 4.8 = 0.667
        (dict(location=[0.6, 1, 20]), True, True),
        (dict(location=[0.8, 1, 20]), False, False),
        # higher by 0.4 m: the same from above, 1.6 / 2.4 = 0.667 in space; by 0.3 m: 1.7 / 2.3 = 0.739
        (dict(location=[0, 0.6, 20]), True, False),
        (dict(location=[0, 0.7, 20]), True, True),
        # a quarter turn: 2 x 2 of 4 x 2 twice, 4 / 12
        (dict(rotation_y=math.pi / 2), False, False),
        (dict(rotation_y=math.pi), True, True),
    ],
)
def test_overlaps_of_a_car(changes: dict, bev: bool, space: bool) -> None:
    found = [HITS[0], _box(at=1, score=0.7, **changes)]
    assert _all(_score(TWO, found))[1:] == pytest.approx([float(bev), float(space)])


def test_an_eighth_of_a_turn_of_a_square_leaves_an_octagon() -> None:
    """Two squares of side 2, one turned by 45 degrees, share 8 (sqrt 2 - 1) = 3.314 of 8 - 3.314: 0.707."""
    square = dict(dimensions=[2.0, 2, 2])
    truth = [_box(at=0, **square), _box(at=1, **square)]
    found = [_box(at=0, score=0.9, **square), _box(at=1, score=0.7, rotation_y=math.pi / 4, **square)]
    for least, hit in ((0.707, True), (0.708, False)):
        metrics = _score(truth, found, overlaps=dict(Car=least))
        assert _all(metrics)[1:] == pytest.approx([float(hit)] * 2)


def test_without_images_difficulty_goes_by_occlusion_and_truncation() -> None:
    nothing = dict(bbox=[0.0, 0, 0, 0])
    truth = [dict(row, **nothing) for row in [*TWO, _box(at=2, occluded=1)]]
    found = [dict(row, **nothing) for row in [*HITS, _box(at=2, score=0.5)]]
    metrics = _score(truth, found, images=False)
    assert not [key for key in metrics if 'bbox' in key or 'aos' in key]
    for level, wanted in (('easy', 1), ('moderate', 2), ('hard', 2)):
        assert 40 * metrics[f'AP_3d_R40_{level}/Car'] == pytest.approx(wanted)


def test_means_leave_out_classes_without_objects() -> None:
    truth = [*TWO, _box('Pedestrian', at=4), _box('Pedestrian', at=5)]
    metrics = _score(truth, HITS, ['Car', 'Pedestrian', 'Cyclist'])
    assert math.isnan(metrics['AP_3d_R40_easy/Cyclist'])
    assert metrics['AP_3d_R40_easy/Pedestrian'] == 0
    assert metrics['mAP_3d_R40_easy'] == pytest.approx((1 / 40 + 0) / 2)

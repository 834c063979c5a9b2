"""What is accepted, refused and held unsure, on detections made by hand."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from mmdet3d.core.bbox import LiDARInstance3DBoxes

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.datasets.sparse.instance_bank import FATES, REASONS, InstanceBank
from projects.mmdet3d_plugin.datasets.sparse.mining import (
    Detections,
    Finding,
    footprint_overlaps,
    match,
    mine,
)
from projects.mmdet3d_plugin.datasets.sparse.mining_settings import MiningSettings, two_means
from projects.mmdet3d_plugin.datasets.sparse.view import View

CLASSES = ('Car', 'Pedestrian')
FIXED = MiningSettings(score=0.6, consistency=0.5)
CAR = (4.0, 1.6, 1.5)


def boxes(*places: Sequence[float], size: Sequence[float] = CAR) -> np.ndarray:
    """Boxes at (x, y) or (x, y, yaw)."""
    return np.array([(p[0], p[1], -1.0, *size, p[2] if len(p) > 2 else 0.0) for p in places]).reshape(-1, 7)


def found(at: np.ndarray, scores: Sequence[float], labels: Sequence[int] | None = None) -> Detections:
    return Detections(at, np.array(scores, np.float64), np.array(labels or [0] * len(at), np.int64))


def cloud(at: np.ndarray, count: int = 20) -> np.ndarray:
    """Points in the middle of every box."""
    centres = at[:, :3] + (0, 0, 0.5)
    return np.repeat(centres, count, 0).astype(np.float32)


def decide(
    first: Detections,
    second: Detections,
    settings: MiningSettings = FIXED,
    kept: np.ndarray | None = None,
    points: np.ndarray | None = None,
) -> InstanceBank:
    kept = boxes() if kept is None else kept
    points = cloud(first.boxes) if points is None else points
    finding = Finding('000000', first, second, kept, np.zeros(len(kept), np.int64), lambda: points)
    return mine([finding], CLASSES, settings)


def verdicts(bank: InstanceBank) -> list[tuple[str, str]]:
    return [(FATES[fate], REASONS[reason]) for fate, reason in zip(bank.fate, bank.reason, strict=True)]


def test_a_consistent_box_is_accepted_and_becomes_the_mean_of_both_views() -> None:
    first, second = found(boxes((10, 0, 3.1)), [0.9]), found(boxes((10.3, 0.1, -0.1)), [0.6])
    bank = decide(first, second)
    assert verdicts(bank) == [('accepted', '')]
    np.testing.assert_allclose(bank.box[0, :2], [10 + 0.4 * 0.3, 0.4 * 0.1], atol=1e-6)
    # half a turn apart but for 0.0584: the sense of the first view
    assert bank.box[0, 6] == pytest.approx(3.1 + 0.4 * (np.pi - 0.1 - 3.1), abs=1e-6)
    assert bank.points.tolist() == [20]
    assert bank.born.tolist() == [1]
    assert bank.header['counts']['Car'] == dict(accepted=1, unsure=0, taken=0)


@pytest.mark.parametrize(
    ('first', 'second', 'reason'),
    [
        (found(boxes((10, 0)), [0.5]), found(boxes((10, 0)), [0.9]), 'score'),
        (found(boxes((10, 0)), [0.9]), found(boxes(), []), 'partner'),  # the second view is empty
        (found(boxes((10, 0)), [0.9]), found(boxes((10, 0)), [0.9], [1]), 'partner'),  # another class
        (found(boxes((10, 0)), [0.9]), found(boxes((12, 0)), [0.9]), 'consistency'),
    ],
)
def test_what_one_view_alone_says_is_unsure(first: Detections, second: Detections, reason: str) -> None:
    bank = decide(first, second)
    assert verdicts(bank) == [('unsure', reason)]
    np.testing.assert_allclose(bank.box, first.boxes)


def test_few_points_are_unsure() -> None:
    both = found(boxes((10, 0)), [0.9])
    assert verdicts(decide(both, both, points=cloud(both.boxes, 4))) == [('unsure', 'points')]
    assert verdicts(decide(both, both, points=cloud(both.boxes, 5))) == [('accepted', '')]


def test_what_touches_a_label_is_neither_mined_nor_removed() -> None:
    both = found(boxes((10, 0), (13.9, 0), (20, 0)), [0.9, 0.2, 0.9])
    bank = decide(both, both, kept=boxes((10.2, 0)))
    assert verdicts(bank) == [('taken', 'label'), ('taken', 'label'), ('accepted', '')]


def test_boxes_apart_are_accepted_where_none_may_overlap() -> None:
    both = found(boxes((10, 0), (20, 0)), [0.9, 0.8])
    assert decide(both, both, dataclasses.replace(FIXED, overlap=0.0)).accepted.all()


def test_of_two_that_overlap_the_better_one_stays() -> None:
    both = found(boxes((10, 0), (11, 0), (13.9, 0), (40, 0)), [0.8, 0.9, 0.3, 0.05])
    bank = decide(both, both)
    # the third is not mined, but removing its points would cut into the second; the last is noise, and not kept
    assert verdicts(bank) == [('taken', 'better one'), ('accepted', ''), ('taken', 'better one')]


def test_a_size_that_no_label_has_is_unsure() -> None:
    usual = boxes(*((10, 10 * i) for i in range(5)))
    usual[:, 3] += np.linspace(-0.1, 0.1, 5)
    at = np.concatenate([boxes((30, 0)), boxes((30, 20), size=(7.0, 1.6, 1.5))])
    both = found(at, [0.9, 0.9])
    assert verdicts(decide(both, both, kept=usual)) == [('accepted', ''), ('unsure', 'size')]


def test_pairs_are_one_to_one_and_best_together() -> None:
    """Greedy by the best overlap would leave the second box alone; argmax would give both the same partner."""
    partner, overlap = match(
        boxes((0, 0), (1.5, 0)), np.zeros(2), boxes((1, 0), (2.9, 0)), np.zeros(2, np.int64)
    )
    assert partner.tolist() == [0, 1]
    assert (overlap > 0).all()
    partner, overlap = match(boxes((0, 0), (0.1, 0)), np.zeros(2), boxes((0, 0)), np.zeros(1))
    assert partner.tolist() == [0, -1]
    assert overlap.tolist() == pytest.approx([1.0, 0.0])


def test_thresholds_come_from_what_is_predicted_for_labels() -> None:
    """Ten labels found at 0.3 and ten at 0.5: the middle is 0.4, for this class alone."""
    frames = []
    for i in range(20):
        labelled, other = boxes((10, 0)), boxes((30, 0))
        scores = [0.3 if i < 10 else 0.5, 0.41 if i == 0 else 0.39]
        both = found(np.concatenate([labelled, other]), scores)
        frames.append(Finding(f'{i:06d}', both, both, labelled, np.array([0]), lambda: cloud(boxes((30, 0)))))
    settings = MiningSettings(score='labels')
    bank = mine(frames, CLASSES, settings)
    car, pedestrian = (bank.header['thresholds'][name] for name in CLASSES)
    assert car['centres'] == pytest.approx([0.3, 0.5])
    assert (car['score'], car['labels_found']) == (pytest.approx(0.4), 20)
    assert (pedestrian['score'], pedestrian['labels_found']) == (pytest.approx(0.4), 0)  # it has no labels
    assert pedestrian['consistency'] == 0.5
    assert bank.frame[bank.accepted].tolist() == ['000000']
    both = mine(frames, CLASSES, MiningSettings(consistency='labels')).header['thresholds']
    assert both['Car']['consistency'] == pytest.approx(1.0)
    assert both['Pedestrian']['consistency'] == pytest.approx(1.0)
    upper = mine(frames, CLASSES, MiningSettings(between=1.0))
    assert upper.header['thresholds']['Car']['score'] == pytest.approx(0.5)
    few = mine(frames[:9], CLASSES, settings)
    assert few.header['thresholds']['Car']['score'] == 0.7


def test_a_class_of_which_few_labels_are_found_takes_the_threshold_of_all_classes() -> None:
    """A number that is good for another detector may be out of reach for this one: then a whole class would be mined never."""
    frames = []
    for i in range(24):
        labelled, score = boxes((10, 0)), 0.2 if i % 2 else 0.4
        seen = found(labelled, [score], [int(i >= 20)])
        frames.append(
            Finding(f'{i:06d}', seen, seen, labelled, np.array([int(i >= 20)]), lambda: cloud(boxes()))
        )
    thresholds = mine(frames, CLASSES, MiningSettings()).header['thresholds']
    assert [thresholds[name]['labels_found'] for name in CLASSES] == [20, 4]
    assert thresholds['Pedestrian']['centres'] == pytest.approx([0.2, 0.4])
    assert thresholds['Pedestrian']['score'] == pytest.approx(0.3)


def test_the_order_of_frames_changes_nothing() -> None:
    one, other = (
        Finding(name, found(at, [0.9]), found(at, [0.9]), boxes(), np.zeros(0, int), lambda at=at: cloud(at))
        for name, at in (('000001', boxes((10, 0))), ('000000', boxes((20, 0))))
    )
    assert mine([one, other], CLASSES, FIXED) == mine([other, one], CLASSES, FIXED)
    with pytest.raises(UserError, match='there twice'):
        mine([one, one], CLASSES, FIXED)
    assert len(mine([], CLASSES, FIXED)) == 0


def test_a_monotone_bank_never_gives_up_what_it_has() -> None:
    old = decide(found(boxes((10, 0)), [0.9]), found(boxes((10, 0)), [0.9]))
    both = found(boxes((10.2, 0), (20, 0)), [0.9, 0.9])
    finding = Finding('000000', both, both, boxes(), np.zeros(0, int), lambda: cloud(both.boxes))
    kept = mine([finding], CLASSES, MiningSettings(score=0.6, keep='monotone'), dict(iteration=2), old)
    assert verdicts(kept) == [('taken', 'label'), ('accepted', ''), ('accepted', 'inherited')]
    assert kept.born.tolist() == [0, 2, 1]
    np.testing.assert_array_equal(kept.box[2], old.box[0])
    fresh = mine([finding], CLASSES, FIXED, dict(iteration=2), old)
    assert verdicts(fresh) == [('accepted', ''), ('accepted', '')]


def test_nothing_is_accepted_above_all_scores() -> None:
    both = found(boxes((10, 0)), [1.0])
    bank = decide(both, both, MiningSettings(score=1.1, least_score=1.1))
    assert len(bank) == 0


def test_two_means_is_the_best_cut() -> None:
    rng = np.random.default_rng(0)
    for values in (rng.random(9), np.array([0.5]), np.array([0.2, 0.2, 0.2])):
        low, high = two_means(values)
        ordered = np.sort(values)
        spreads = [
            sum(((part - part.mean()) ** 2).sum() for part in (ordered[:cut], ordered[cut:]))
            for cut in range(1, len(values))
        ]
        if not spreads:
            assert (low, high) == (values[0], values[0])
            continue
        best = int(np.argmin(np.round(spreads, 12))) + 1
        assert (low, high) == pytest.approx((ordered[:best].mean(), ordered[best:].mean()))


@pytest.mark.parametrize('flip', [False, True])
def test_a_view_goes_back_exactly(flip: bool) -> None:
    """All seven numbers, headings modulo a whole turn; and the way there is that of mmdet3d's boxes."""
    rng = np.random.default_rng(1)
    at = np.column_stack(
        [rng.normal(size=(50, 3)) * 20, rng.uniform(0.5, 5, (50, 3)), rng.uniform(-9, 9, 50)]
    )
    view = View(flip, 0.3, 1.04)
    there = view.boxes(at)
    back = view.original(there)
    np.testing.assert_allclose(back[:, :6], at[:, :6], atol=1e-9)
    np.testing.assert_allclose(np.exp(1j * back[:, 6]), np.exp(1j * at[:, 6]), atol=1e-9)
    theirs = LiDARInstance3DBoxes(at.astype(np.float32))
    if flip:
        theirs.flip('horizontal')
    theirs.rotate(0.3)
    theirs.scale(1.04)
    moved = theirs.tensor.numpy()
    np.testing.assert_allclose(there[:, :6], moved[:, :6], atol=1e-4)
    np.testing.assert_allclose(np.exp(1j * there[:, 6]), np.exp(1j * moved[:, 6]), atol=1e-5)
    centres = at[:, :3]
    np.testing.assert_allclose(view.points(centres), there[:, :3], atol=1e-9)


def test_a_view_follows_from_seed_iteration_and_frame() -> None:
    settings = MiningSettings(rotate=0.3, scale=(0.95, 1.05))
    views = {
        settings.view(*of) for of in ((0, 1, '000001'), (1, 1, '000001'), (0, 2, '000001'), (0, 1, '000002'))
    }
    assert len(views) == 4
    assert settings.view(0, 1, '000001') in views
    assert all(abs(view.angle) <= 0.3 and 0.95 <= view.scale <= 1.05 and view.flip for view in views)


def test_settings_are_looked_at() -> None:
    for settings, said in (
        (dict(scor=0.5), "takes no 'scor'"),
        (dict(score='all'), "score is 'all'"),
        (dict(keep='best'), "keep is 'best'"),
        (dict(least_points=2.5), r'self_training\.mine\.least_points is 2.5'),
        (dict(scale=(0, 1.0)), 'two ascending factors above zero'),
        (dict(scale=(1.1, 0.9)), 'two ascending factors above zero'),
        (dict(between=3.0), 'between is 3.0: it must lie between 0 and 1'),
        (dict(weight=-0.5), 'weight is -0.5'),
        (dict(rotate=45.0), 'rotate is 45.0'),
        (dict(sigmas=-1.0), 'sigmas is -1.0'),
        (3, 'mine is 3: it must be a dict'),
    ):
        with pytest.raises(UserError, match=said):
            MiningSettings.from_config(settings, 'self_training.mine')
    both = found(boxes((10, 0)), [0.9])
    with pytest.raises(UserError, match='score has no threshold for Pedestrian'):
        decide(both, both, MiningSettings(score={'Car': 0.5}))
    by_name = dict.fromkeys([*CLASSES, 'Cars'], 0.5)
    with pytest.raises(UserError, match="consistency has a threshold for 'Cars'; did you mean 'Car'"):
        decide(both, both, MiningSettings(consistency=by_name))
    assert footprint_overlaps(boxes((0, 0)), boxes((4.0, 0)))[0, 0] == 0

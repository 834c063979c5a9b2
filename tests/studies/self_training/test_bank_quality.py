"""A bank against the truth, on four frames counted by hand."""

from collections.abc import Sequence

import numpy as np
import pytest

from projects.mmdet3d_plugin.datasets.sparse.instance_bank import VERSION, InstanceBank
from projects.mmdet3d_plugin.studies.self_training.bank_page import quality_rows, quality_table, write_page
from projects.mmdet3d_plugin.studies.self_training.bank_quality import TrueFrame, assess
from projects.mmdet3d_plugin.visualization.bev_view import View

CAR, PEDESTRIAN = 0, 1
ACCEPTED, UNSURE, TAKEN = range(3)


def at(x: float, y: float = 0.0, yaw: float = 0.0, length: float = 4.0) -> tuple[float, ...]:
    return (x, y, -1.0, length, 1.6, 1.5, yaw)


TRUTH: dict[str, list[tuple[tuple[float, ...], int, bool]]] = {
    '000000': [(at(10), CAR, True), (at(20), CAR, False), (at(30), CAR, False)],
    '000001': [(at(10), CAR, False), (at(20), PEDESTRIAN, False)],
    '000002': [(at(10), CAR, False)],
    '000003': [(at(10), PEDESTRIAN, True)],
}
BANK = [
    (
        '000000',
        at(20.4, 0, np.radians(5)),
        CAR,
        ACCEPTED,
    ),  # right at 0.5, overlap 3.6 / 4.4 less what it is turned by
    ('000000', at(20.9), CAR, TAKEN),  # counts for nothing
    ('000000', at(31.8), CAR, UNSURE),  # covers the third car from above: 2.2 / 5.8
    ('000001', at(11.0), CAR, ACCEPTED),  # 3 / 5: right at 0.5, not at 0.7
    ('000001', at(20), CAR, ACCEPTED),  # another class is there
    ('000002', at(50), CAR, ACCEPTED),  # nothing is there, and the car at 10 is poison
    ('000003', at(10), PEDESTRIAN, ACCEPTED),  # on a kept label: right, but nothing hidden was found
]


def bank() -> InstanceBank:
    count = len(BANK)
    zeros = np.zeros(count, np.int64)
    limits = dict(score=0.4, consistency=0.5, labels_found=20, centres=[0.3, 0.5])
    return InstanceBank(
        dict(version=VERSION, iteration=1, classes=['Car', 'Pedestrian'], thresholds=dict(Car=limits)),
        frame=np.array([row[0] for row in BANK]),
        box=np.array([row[1] for row in BANK], np.float32),
        label=np.array([row[2] for row in BANK]),
        score=np.ones(count, np.float32),
        consistency=np.ones(count, np.float32),
        row=zeros,
        partner=zeros.copy(),
        born=zeros.copy(),
        points=zeros.copy(),
        fate=np.array([row[3] for row in BANK], np.uint8),
        reason=zeros.astype(np.uint8),
    )


def _points(centres: Sequence[tuple[float, float, float]]) -> np.ndarray:
    return np.array(centres, np.float32)


def truth() -> list[TrueFrame]:
    """Of the box that is unsure one point is within the car, two are background, and one is ground that stays."""
    clouds = dict.fromkeys(TRUTH, _points([(0.0, 0.0, 0.0)]))
    clouds['000000'] = _points([(30.5, 0, 0), (33, 0, 0), (33.5, 0.5, 0), (33, 0, -0.95), (60, 0, 0)])
    return [
        TrueFrame(
            frame,
            np.array([row[0] for row in rows]),
            np.array([row[1] for row in rows]),
            np.array([row[2] for row in rows]),
            lambda frame=frame: clouds[frame],
        )
        for frame, rows in TRUTH.items()
    ]


def test_the_figures_are_those_counted_by_hand() -> None:
    quality = assess(bank(), truth())
    car, pedestrian, both = (quality.classes[name] for name in ('Car', 'Pedestrian', 'all'))
    assert (car.annotated, car.hidden, car.accepted) == (1, 4, 4)
    assert (car.right, car.found) == ((2, 1), (2, 1))
    assert (car.precision, car.recall) == ((0.5, 0.25), (0.5, 0.25))
    assert (car.confused, car.poison) == (1, 1)
    assert car.centre == pytest.approx((0.4 + 1.0) / 2, abs=1e-6)
    assert car.heading == pytest.approx(2.5, abs=1e-4)
    assert car.size == pytest.approx(0, abs=1e-6)
    assert (pedestrian.annotated, pedestrian.hidden, pedestrian.accepted) == (1, 1, 1)
    assert (pedestrian.right, pedestrian.found) == ((1, 1), (0, 0))
    assert (pedestrian.confused, pedestrian.poison) == (0, 0)  # a mined car covers the hidden one
    assert (quality.removed, quality.lost) == (3, 2)
    for count in ('annotated', 'hidden', 'accepted', 'confused', 'poison'):
        assert getattr(both, count) == getattr(car, count) + getattr(pedestrian, count)
    assert both.right == (3, 2)


def test_an_empty_bank_has_no_shares_and_the_page_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    nothing = bank().select(np.zeros(0, np.int64))
    quality = assess(nothing, truth())
    assert quality.classes['all'].poison == quality.classes['all'].hidden == 5
    assert np.isnan(quality.classes['all'].precision).all()
    assert quality_rows([quality])[2][:6] == ['1, all', '2', '5', '0', '-', '-']
    assert quality_table([quality]).row_count == 3
    out = tmp_path_factory.mktemp('page')
    page = write_page([quality], [nothing], truth()[:1], View.of([0, -8, -3, 40, 8, 1], 0.0), out, 1)
    text = page.read_text()
    assert 'precision @0.5' in text
    assert '000000: 0 accepted, 0 unsure, 0 points removed; 2 hidden objects' in text
    assert (out / '000000.png').stat().st_size > 5000

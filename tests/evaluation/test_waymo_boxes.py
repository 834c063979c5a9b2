"""Waymo's metric from files of plain boxes."""

import json
from pathlib import Path
from typing import Any

import pytest

from projects.mmdet3d_plugin.evaluation.waymo_boxes import main

CAR = [10.0, 0, 1, 4, 2, 1.5, 0.0]
TRUTH = [
    dict(boxes=[CAR, [30.0, *CAR[1:]]], names=['Vehicle', 'Vehicle'], num_points=[90, 3]),
    dict(boxes=[], names=[], num_points=[]),
]
FOUND = [
    dict(boxes=[CAR, [30.0, *CAR[1:]]], names=['Vehicle', 'Vehicle'], scores=[0.9, 0.8]),
    dict(boxes=[], names=[], scores=[]),
]


def _run(folder: Path, truth: Any, found: Any, *options: str) -> int:
    for name, content in (('truth', truth), ('found', found)):
        (folder / f'{name}.json').write_text(content if isinstance(content, str) else json.dumps(content))
    return main([str(folder / 'truth.json'), str(folder / 'found.json'), *options])


def test_boxes_are_scored(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert _run(tmp_path, TRUTH, FOUND, '--json', str(tmp_path / 'out.json')) == 0
    assert 'mean of Vehicle' in capsys.readouterr().out
    metrics = json.loads((tmp_path / 'out.json').read_text())
    assert metrics['AP_L1/Vehicle'] == metrics['APH_L2/Vehicle'] == metrics['mAPH_L2'] == pytest.approx(1)
    assert not [key for key in metrics if 'Cyclist' in key]
    assert _run(tmp_path, TRUTH, [FOUND[1], FOUND[1]], '--json', str(tmp_path / 'out.json')) == 0
    assert json.loads((tmp_path / 'out.json').read_text())['AP_L2/Vehicle'] == 0


def test_own_classes_have_an_overlap_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    named = [
        [dict(frame, names=['Truck'] * len(frame['names'])) for frame in part] for part in (TRUTH, FOUND)
    ]
    named[1][0] = dict(named[1][0], boxes=[[11.0, *CAR[1:]], [31.0, *CAR[1:]]])  # moved by a metre of four
    for overlap, wanted in (('0.5', '100.00'), ('0.7', '0.00')):
        assert _run(tmp_path, *named, '--overlap', f'Truck={overlap}') == 0
        assert wanted in capsys.readouterr().out


@pytest.mark.parametrize(
    ('truth', 'found', 'options', 'wanted'),
    [
        ('{', FOUND, (), 'truth.json is damaged'),
        ('[' * 100000, FOUND, (), 'truth.json is damaged'),
        ([dict(TRUTH[0], names=3), TRUTH[1]], FOUND, (), 'frame 0: names should be a list'),
        ({}, FOUND, (), 'truth.json should hold a list of frames'),
        (TRUTH[:1], FOUND, (), 'has 1 frames'),
        ([1, 2], FOUND, (), 'truth.json, frame 0 lacks boxes, names, num_points'),
        (TRUTH, [dict(FOUND[0], scores=[1]), FOUND[1]], (), 'found.json, frame 0 has 1 scores for 2 names'),
        (TRUTH, [dict(FOUND[0], scores=[1, float('nan')]), FOUND[1]], (), 'frame 0: scores are not finite'),
        (TRUTH, [dict(FOUND[0], scores=[1, 3]), FOUND[1]], (), 'frame 0: a score is not between 0 and 1'),
        (TRUTH, [dict(FOUND[0], boxes=[[1, 2]]), FOUND[1]], (), 'boxes should hold 7 numbers per object'),
        ([dict(TRUTH[0], boxes=[CAR, [0] * 7]), TRUTH[1]], FOUND, (), 'frame 0: a box has no size'),
        (
            TRUTH,
            FOUND,
            ('--overlap', 'Van=0.5'),
            'no object of Van with a LiDAR point; its names are Vehicle',
        ),
        (TRUTH, FOUND, ('--overlap', 'Van'), '--overlap Van: say a class and an overlap'),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    truth: Any,
    found: Any,
    options: tuple[str, ...],
    wanted: str,
) -> None:
    with pytest.raises(SystemExit) as caught:
        _run(tmp_path, truth, found, *options)
    assert caught.value.code == 2
    assert wanted in capsys.readouterr().err

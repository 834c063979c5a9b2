"""Reading mmcv's logs, and the charts made of them."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from projects.mmdet3d_plugin.visualization.loss_curves import draw_curves, read_training_log, smooth


def write_log(path: Path, entries: list[dict]) -> None:
    path.write_text('\n'.join(json.dumps(entry) for entry in [{'env_info': 'here'}, *entries]))


def train(epoch: int, iteration: int, **values: float) -> dict:
    return dict(mode='train', epoch=epoch, iter=iteration, **values)


def test_resumed_run_is_joined_and_repeated_entries_count_once(tmp_path: Path) -> None:
    write_log(tmp_path / '20260101_000000.log.json', [train(1, 5, loss=4.0), train(1, 10, loss=3.0)])
    later = [
        train(1, 10, loss=2.5),
        train(2, 5, loss=2.0, loss_bev=0.1),
        dict(mode='val', epoch=2, iter=3, NDS=0.4),
    ]
    write_log(tmp_path / '20260101_010000.log.json', later)
    log = read_training_log(tmp_path)
    np.testing.assert_allclose(log.epochs, [0.5, 1, 1.5])
    np.testing.assert_allclose(log.values['loss'], [4, 2.5, 2])
    np.testing.assert_allclose(log.values['loss_bev'], [np.nan, np.nan, 0.1])
    assert log.scores['NDS'] == [(2, 0.4)]
    assert log.names('bev') == ['loss_bev']


def test_folder_without_training_entries_says_so(tmp_path: Path) -> None:
    write_log(tmp_path / 'a.log.json', [])
    with pytest.raises(FileNotFoundError, match=r'no \*\.log\.json with training entries'):
        read_training_log(tmp_path)


def test_smooth_keeps_constants_and_skips_gaps() -> None:
    values = np.array([2.0, 2, np.nan, 2, 2, 2])
    np.testing.assert_allclose(smooth(values, 0.5), 2)


def test_smooth_averages_neighbours() -> None:
    np.testing.assert_allclose(smooth(np.array([0.0, 3, 0, 3, 0]), 0.6), [1.5, 1, 2, 1, 1.5])


def test_chart_is_svg_in_the_colour_of_the_page() -> None:
    x = np.arange(10.0)
    svg = draw_curves({'teacher': (x, 10 - x), 'student': (x, 12 - x)}, 'loss')
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith('svg')
    assert 'currentColor' in svg
    assert 'teacher' in svg
    assert svg == draw_curves({'teacher': (x, 10 - x), 'student': (x, 12 - x)}, 'loss')

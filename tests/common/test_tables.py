"""Metrics for people."""

import io
import itertools

import pytest
from rich.console import Console

from projects.mmdet3d_plugin.common.tables import format_metric, make_console, make_table, print_metrics


def test_scores_are_points_and_errors_are_not() -> None:
    assert format_metric('NDS', 0.4683) == '46.83'
    assert format_metric('mAOE', 0.3512) == '0.351'
    assert format_metric('mAVE', float('nan')) == '-'


def test_the_table_shows_scores_errors_and_classes() -> None:
    out = io.StringIO()
    metrics = {'NDS': 0.5, 'mAP': 0.25, 'mATE': 0.7, 'AP/car': 0.125}
    print_metrics(metrics, 'epoch_24.pth', Console(file=out, width=120))
    for expected in ('epoch_24.pth', '50.00', '25.00', '0.700', 'car', '12.50'):
        assert expected in out.getvalue()


def test_models_stand_below_each_other() -> None:
    table = make_table({'teacher': {'NDS': 0.5}, 'student': {'NDS': 0.4, 'params': 3.0}})
    assert [column.header for column in table.columns] == ['model', 'NDS', 'params']
    assert table.row_count == 2


def test_kittis_figures_stand_in_a_table_per_recall() -> None:
    out = io.StringIO()
    metrics = {'AP_3d_R40_easy/Car': 0.5, 'AP_3d_R11_easy/Car': 0.25, 'mAP_3d_R40_easy': 0.75}
    metrics['AP_3d_R40_easy_loose/Car'] = float('nan')
    print_metrics(metrics, 'last.pth', Console(file=out, width=120))
    first, second = out.getvalue().split('KITTI AP R11')
    assert 'last.pth: KITTI AP R40' in first
    assert '25.00' in second
    assert '25.00' not in first
    rows = {
        line.split('│')[0].strip(): [cell.strip() for cell in line.split('│')[1:]]
        for line in first.splitlines()
        if '│' in line
    }
    assert rows == {'Car': ['3d', '50.00', '-'], 'mean': ['3d', '75.00', '-']}
    assert format_metric('mAP_bev_R40_moderate', 0.625) == '62.50'


def test_kittis_table_is_whole_on_a_narrow_terminal() -> None:
    out = io.StringIO()
    levels = itertools.product(('easy', 'moderate', 'hard'), ('', '_loose'), ('Car', 'Pedestrian', 'Cyclist'))
    print_metrics(
        {f'AP_3d_R40_{level}{loose}/{of}': 1.0 for level, loose, of in levels},
        'epoch_80.pth',
        Console(file=out, width=80),
    )
    rows = [line for line in out.getvalue().splitlines() if '3d' in line]
    assert [line.count('100.00') for line in rows] == [6, 6, 6]


def test_a_file_is_wider_than_a_terminal(capsys: pytest.CaptureFixture) -> None:
    make_console().print('x' * 150)
    assert capsys.readouterr().out == 'x' * 150 + '\n'

"""A comparison prints and reports what is finished, whatever became of the rest."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.studies.gain.choice import Choice
from projects.mmdet3d_plugin.studies.gain.compare import compare, report_results
from projects.mmdet3d_plugin.studies.gain.families import FAMILIES
from projects.mmdet3d_plugin.studies.gain.plan import Plan, make_plan
from projects.mmdet3d_plugin.studies.side_by_side import SideBySideRunner
from projects.mmdet3d_plugin.studies.stages import StageFailedError
from projects.mmdet3d_plugin.studies.training_run import ROOT
from tests.studies.gain.conftest import HEAD, HEATMAP, PAIR, finish, options_for
from tools.benchmark.measure import kd_gain
from tools.benchmark.options import parse_kd_gain


def wide() -> Console:
    return Console(file=io.StringIO(), width=200)


def rows_of(printed: str) -> dict[str, list[list[str]]]:
    """Cells behind the first one of every line of the printed tables, by that first one."""
    found: dict[str, list[list[str]]] = {}
    for line in printed.splitlines():
        if line.startswith('│'):
            name, *cells = (cell.strip() for cell in line.strip('│').split('│'))
            found.setdefault(name, []).append(cells)
    return found


def test_figures_are_those_of_the_runs(plan: Plan, finished: SideBySideRunner) -> None:
    results = report_results(plan, finished, wide())
    rows, alone = results['pairs']['teacher']['rows'], (10.0, 12.0)
    for name, nds in (('inherit', (11.0, 13.0)), ('heatmap', (13.0, 17.0))):
        gains = np.subtract(nds, alone)
        assert rows[name]['gain']['mean'] == pytest.approx(gains.mean())
        low, high = stats.t.interval(0.95, 1, gains.mean(), stats.sem(gains)) if np.ptp(gains) else gains
        assert rows[name]['gain']['half_width'] == pytest.approx((high - low) / 2)
        assert rows[name]['spreads']['NDS']['deviation'] == pytest.approx(np.std(nds, ddof=1))
        assert rows[name]['of_gap'] == pytest.approx(gains.mean() / (30.0 - 11.0))
        assert rows[name]['cpu_ratio'] == pytest.approx(90 / 60)
    assert rows['heatmap']['beyond_head']['mean'] == pytest.approx((2.0 + 4.0) / 2)
    assert rows['heatmap']['inherited'] == pytest.approx(1.0 / 4.0)
    assert results['pairs']['teacher']['gap'] == pytest.approx(30.0 - 11.0)
    assert results['world_seed'] == 5


def test_goals_are_judged(tmp_path: Path) -> None:
    """Met and missed by the same runs, as the goal says."""
    for wanted, met in ((3.9, True), (4.1, False)):
        row = replace(HEATMAP, goal=wanted)
        options = options_for(tmp_path / str(wanted))
        plan = make_plan(replace(options, choices=[Choice(PAIR, (PAIR.student, HEAD, row))]))
        runner = SideBySideRunner(plan.options.out, plan.stages(), ROOT)
        finish(plan, runner, [run.name for run in plan.pairs[0].runs])
        goals = report_results(plan, runner, wide())['pairs']['teacher']['goals']
        assert [goal['met'] for goal in goals if f'>= +{wanted:.2f}' in goal['text']] == [met]


def test_tables_and_report_show_the_figures(plan: Plan, finished: SideBySideRunner) -> None:
    console = wide()
    report_results(plan, finished, console)
    rows = rows_of(console.file.getvalue())
    shown = ['15.00 ± 2.83', '+4.00', '-8.71 to +16.71', '+3.00', '25 %', '21 %']
    assert rows['heatmap recipe'][0] == shown
    assert rows['heatmap recipe'][2] == ['1.50x', '1.00x', '1.00x']
    page = (plan.options.out / 'report.html').read_text()
    for text in (*shown, 'heatmap recipe, seed 1', 'loss_kd_bev_l2', '0:01:01'):
        assert text in page
    assert page.count('<svg') == 3  # gains, detection loss, the terms of one row
    assert page.count('data:image/jpeg') == 4


def test_interrupted_comparison_still_has_a_report(plan: Plan, runner: SideBySideRunner) -> None:
    report_results(plan, runner, wide())
    finish(plan, runner, ['none_seed_0', 'heatmap_seed_0', 'teacher'])
    console = wide()
    report_results(plan, runner, console)
    said = console.file.getvalue()
    assert 'One seed: no spread, no interval' in said
    assert 'cannot be told' in said
    assert '13.00' in (plan.options.out / 'report.html').read_text()


def test_failure_of_one_run_keeps_the_others(
    plan: Plan, finished: SideBySideRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: SideBySideRunner) -> None:
        raise StageFailedError('1 of 20 steps failed')

    monkeypatch.setattr(SideBySideRunner, 'run', fail)
    results, problem = compare(plan.options, jobs=1, console=wide())
    assert str(problem) == '1 of 20 steps failed'
    assert results['pairs']['teacher']['rows']['heatmap']['gain']['mean'] == pytest.approx(4.0)


def test_command_line_chooses_from_the_scale(tmp_path: Path) -> None:
    words = ['--rows', 'heatmap', '--seeds', '3,4', '--scenes', '8', '--world-seed', '2', '--epochs', '1']
    options = kd_gain.options_of(parse_kd_gain(words))
    assert options.scale.seeds == (3, 4)
    left = FAMILIES['camera'].scales['cpu']
    assert options.scale == replace(left, scenes=8, epochs=1, seeds=(3, 4))
    assert options.out == Path('work_dirs/kd_gain/camera_cpu_2')
    assert [row.name for row in options.choices[0].rows] == ['none', 'heatmap']


def test_gpu_that_is_not_there_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    with pytest.raises(SystemExit, match='torch sees no GPU'):
        kd_gain.main(['--rows', 'heatmap', '--scale', 'gpu', '--out', str(tmp_path / 'out')])
    assert not (tmp_path / 'out').exists()


def test_paths_hold_where_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'w').mkdir()
    (tmp_path / 't.pth').touch()
    words = ['--rows', 'heatmap', '--out', 'mine', '--world', 'w', '--teacher', 't.pth']
    options = kd_gain.options_of(parse_kd_gain(words))
    assert (options.out, options.world, options.teacher) == (
        tmp_path / 'mine',
        tmp_path / 'w',
        tmp_path / 't.pth',
    )


def test_command_line_refuses_seeds_that_are_none(capsys: pytest.CaptureFixture) -> None:
    for words in ('0,0', 'a', ','):
        with pytest.raises(SystemExit):
            parse_kd_gain(['--seeds', words])
    assert "'0,0': different numbers of at least 0 with commas between them" in capsys.readouterr().err


def test_command_writes_figures_before_it_reports_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kd_gain, 'compare', lambda *_: ({'family': 'camera'}, UserError('one run failed')))
    file = tmp_path / 'deep' / 'gain.json'
    with pytest.raises(SystemExit, match='error: one run failed'):
        kd_gain.main(['--rows', 'heatmap', '--json', str(file)])
    content = json.loads(file.read_text())
    assert content['family'] == 'camera'
    assert 'torch' in content['machine']

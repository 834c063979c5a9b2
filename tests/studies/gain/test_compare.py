"""A comparison prints and reports what is finished, whatever became of the rest."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.studies.gain.compare import compare, report_results
from projects.mmdet3d_plugin.studies.gain.families import FAMILIES
from projects.mmdet3d_plugin.studies.gain.plan import Plan
from projects.mmdet3d_plugin.studies.side_by_side import SideBySideRunner
from projects.mmdet3d_plugin.studies.stages import StageFailedError
from tests.studies.gain.conftest import finish
from tools.benchmark import kd_gain


def wide() -> Console:
    return Console(file=io.StringIO(), width=200)


def test_tables_goals_and_report(plan: Plan, finished: SideBySideRunner) -> None:
    console = wide()
    results = report_results(plan, finished, console)
    said = console.file.getvalue()
    for figure in (
        '15.00 ± 2.83',
        '+4.00',
        '-8.71 to +16.71',
        '+3.00',
        '25 %',
        '21 %',
        '1.50x',
        '0.300 ± 0.000',
    ):
        assert figure in said
    assert 'met  heatmap recipe gains +4.00, goal >= +2.15' in said
    page = (plan.options.out / 'report.html').read_text()
    for text in ('15.00 ± 2.83', '-8.71 to +16.71', 'heatmap recipe, seed 1', 'loss_kd_bev_l2'):
        assert text in page
    assert page.count('<svg') == 3  # gains, detection loss, the terms of one row
    assert page.count('data:image/jpeg') == 4
    assert '0:01:01' in page
    assert results['pairs']['teacher']['gap'] == pytest.approx(19.0)
    assert results['world_seed'] == 5


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
    options = kd_gain.options_of(kd_gain.make_parser().parse_args(words))
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
    words = ['--rows', 'heatmap', '--out', 'mine', '--world', 'w', '--teacher', 't.pth']
    options = kd_gain.options_of(kd_gain.make_parser().parse_args(words))
    assert (options.out, options.world, options.teacher) == (
        tmp_path / 'mine',
        tmp_path / 'w',
        tmp_path / 't.pth',
    )


def test_command_line_refuses_seeds_that_are_none(capsys: pytest.CaptureFixture) -> None:
    for words in ('0,0', 'a', ','):
        with pytest.raises(SystemExit):
            kd_gain.make_parser().parse_args(['--seeds', words])
    assert "'0,0': different numbers with commas between them" in capsys.readouterr().err


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

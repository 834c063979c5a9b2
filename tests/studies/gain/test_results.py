"""Only what is finished, and belongs to these settings, is read."""

import json

import pytest

from projects.mmdet3d_plugin.studies.gain.families import CAMERA
from projects.mmdet3d_plugin.studies.gain.plan import Plan
from projects.mmdet3d_plugin.studies.gain.results import Cost, ratio_of, read_results
from projects.mmdet3d_plugin.studies.side_by_side import SideBySideRunner
from tests.studies.gain.conftest import finish


def test_finished_runs_are_read(plan: Plan, finished: SideBySideRunner) -> None:
    (result,) = read_results(plan, finished)
    assert result.teacher['NDS'] == pytest.approx(0.3)
    assert result.values('heatmap', CAMERA.headline) == pytest.approx({0: 13.0, 1: 17.0})
    cost = result.costs['heatmap'][1]
    assert (cost.cpu_seconds, cost.step_seconds, cost.gpu_bytes) == (90.0, 0.2, None)
    assert ratio_of(result.costs['heatmap'], result.costs['none'], 'cpu_seconds') == pytest.approx(1.5)


def test_unfinished_runs_are_left_out(plan: Plan, runner: SideBySideRunner) -> None:
    finish(plan, runner, ['none_seed_0', 'heatmap_seed_0'])
    (result,) = read_results(plan, runner)
    assert result.teacher is None
    assert result.metrics['heatmap'].keys() == {0}
    assert result.metrics['inherit'] == {}


def test_results_of_other_settings_are_left_out(plan: Plan, finished: SideBySideRunner) -> None:
    stamp = finished.folder / 'stamps' / 'evaluate_none_seed_0.json'
    stamp.write_text(json.dumps({**json.loads(stamp.read_text()), 'key': 'of other settings'}))
    (result,) = read_results(plan, finished)
    assert result.metrics['none'].keys() == {1}


def cost(**changes: object) -> Cost:
    return Cost(
        **{**dict(seconds=10, cpu_seconds=10, step_seconds=1, peak_bytes=1, gpu_bytes=None), **changes}
    )


def test_interrupted_trainings_take_no_part_in_the_comparison_of_time() -> None:
    base = {0: cost(attempts=1), 1: cost(attempts=2)}
    other = {0: cost(attempts=1, cpu_seconds=20), 1: cost(attempts=1, cpu_seconds=90, step_seconds=3)}
    assert ratio_of(other, base, 'cpu_seconds') == pytest.approx(2.0)
    assert ratio_of(other, base, 'step_seconds') == pytest.approx(2.0)
    assert ratio_of(other, base, 'gpu_bytes') is None
    assert ratio_of({1: other[1]}, base, 'cpu_seconds') is None

"""Gains, shares and goals, worked out by hand from NDS of 10 and 12 alone, 11 and 13 with the head, 13 and 17 taught."""

import json
from dataclasses import replace

import pytest

from projects.mmdet3d_plugin.studies.gain.families import CAMERA
from projects.mmdet3d_plugin.studies.gain.page import gain_bars
from projects.mmdet3d_plugin.studies.gain.plan import Plan
from projects.mmdet3d_plugin.studies.gain.results import PairResult, read_results
from projects.mmdet3d_plugin.studies.gain.summary import Summary, as_json, summarize
from projects.mmdet3d_plugin.studies.side_by_side import SideBySideRunner
from tests.studies.gain.conftest import PAIR


@pytest.fixture
def result(plan: Plan, finished: SideBySideRunner) -> PairResult:
    return read_results(plan, finished)[0]


def verdicts(summary: Summary) -> dict[str, bool | None]:
    return {verdict.text: verdict.met for verdict in summary.verdicts}


def test_gain_and_shares(result: PairResult) -> None:
    summary = summarize(result, CAMERA)
    alone, head, taught = summary.rows
    assert summary.gap == pytest.approx(30 - 11)
    assert alone.gain is None
    assert alone.beyond_head is None
    assert head.gain.mean == pytest.approx(1.0)
    assert head.inherited is None
    assert taught.gain.mean == pytest.approx((3 + 5) / 2)
    assert taught.gain.half_width == pytest.approx(
        12.7062 * 2**0.5 / 2**0.5, rel=1e-5
    )  # t(0.975, 1), s = sqrt 2
    assert taught.beyond_head.mean == pytest.approx(3.0)
    assert taught.inherited == pytest.approx(1 / 4)
    assert taught.of_gap == pytest.approx(4 / 19)
    assert taught.cpu_ratio == pytest.approx(1.5)
    assert taught.spreads['NDS'].deviation == pytest.approx(8**0.5)


def test_what_is_beyond_the_head_waits_for_no_student_alone(result: PairResult) -> None:
    summary = summarize(replace(result, metrics={**result.metrics, PAIR.student.name: {}}), CAMERA)
    alone, inherited, taught = summary.rows
    assert alone.beyond_head is None
    assert inherited.beyond_head is None
    assert taught.gain is None
    assert taught.beyond_head.mean == pytest.approx(3.0)
    assert taught.inherited is None


def test_goals_are_judged(result: PairResult) -> None:
    assert verdicts(summarize(result, CAMERA)) == {
        'teacher leads student alone by +19.00, goal >= 8': True,
        'heatmap recipe gains +4.00, goal >= +2.15': True,
        'heatmap recipe (13.00 to 17.00) is above student alone (10.00 to 12.00) for all seeds': True,
    }


def test_goals_may_count_beyond_the_head_and_over_another_recipe(result: PairResult) -> None:
    pair = replace(
        PAIR, goals_beyond_head=True, leads={('heatmap', 'inherit'): 3.5}, rivals=(('heatmap', 'inherit'),)
    )
    summary = summarize(replace(result, pair=pair), CAMERA)
    judged = verdicts(summary)
    assert [bar.goal for bar in gain_bars(summary)] == [
        None,
        pytest.approx(1.0 + 2.15),
    ]  # behind the head's bar
    assert judged['heatmap recipe gains +3.00 beyond the inherited head, goal >= +2.15'] is True
    assert judged['heatmap recipe leads inherited head only by +3.00, goal >= +3.50'] is False


def test_the_best_of_several_rows_is_judged_and_may_lower_a_metric(result: PairResult) -> None:
    for name, errors in {'inherit': (0.9, 0.8), 'heatmap': (0.7, 0.8)}.items():
        for found, error in zip(result.metrics[name].values(), errors, strict=True):
            found['mATE'] = error
    pair = replace(
        PAIR,
        best_of={'best': ('inherit', 'heatmap')},
        rivals=(('best', 'none'),),
        leads={('best', 'none'): 4.5},
        lowers=(('best', 'inherit', 'mATE'), ('inherit', 'best', 'mATE')),
    )
    judged = verdicts(summarize(replace(result, pair=pair), CAMERA))
    assert judged['heatmap recipe (13.00 to 17.00) is above student alone (10.00 to 12.00) for all seeds']
    assert judged['heatmap recipe leads student alone by +4.00, goal >= +4.50'] is False
    assert judged['heatmap recipe changes the mATE of inherited head only by -0.100, goal < 0'] is True
    assert judged['inherited head only changes the mATE of heatmap recipe by +0.100, goal < 0'] is False


def test_missed_goals_are_missed(result: PairResult) -> None:
    proud = replace(result.rows[2], goal=4.5)
    pair = replace(PAIR, least_gap=20.0, rivals=(('heatmap', 'inherit'),))
    judged = verdicts(summarize(replace(result, pair=pair, rows=(*result.rows[:2], proud)), CAMERA))
    assert judged['teacher leads student alone by +19.00, goal >= 20'] is False
    assert judged['heatmap recipe gains +4.00, goal >= +4.50'] is False
    assert (
        judged['heatmap recipe (13.00 to 17.00) is above inherited head only (11.00 to 13.00) for all seeds']
        is False
    )


def test_one_seed_judges_means_but_no_ranges(result: PairResult) -> None:
    for found in result.metrics.values():
        found.pop(1)
    summary = summarize(result, CAMERA)
    assert summary.rows[2].gain.interval is None
    assert verdicts(summary)['heatmap recipe gains +3.00, goal >= +2.15'] is True
    assert [met for text, met in verdicts(summary).items() if 'for all seeds' in text] == [None]


def test_nothing_finished_says_nothing(plan: Plan, runner: SideBySideRunner) -> None:
    summary = summarize(read_results(plan, runner)[0], CAMERA)
    assert summary.gap is None
    assert all(row.gain is None for row in summary.rows)
    assert set(verdicts(summary).values()) == {None}


def test_plain_data_holds_summary_and_runs(result: PairResult) -> None:
    content = json.loads(json.dumps(as_json(summarize(result, CAMERA))))
    taught = content['rows']['heatmap']
    assert taught['gain']['mean'] == pytest.approx(4.0)
    assert taught['goal'] == 2.15
    assert taught['runs']['1']['metrics']['NDS'] == pytest.approx(0.17)
    assert taught['runs']['1']['cost']['attempts'] == 1
    assert content['teacher']['metrics']['NDS'] == pytest.approx(0.3)
    assert content['goals'][0]['met'] is True

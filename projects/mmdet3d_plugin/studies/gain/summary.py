"""What the results say: means and spreads, gains with intervals, shares, costs, and goals."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from projects.mmdet3d_plugin.studies.gain.families import Family, Metric, Row
from projects.mmdet3d_plugin.studies.gain.results import PairResult, ratio_of
from projects.mmdet3d_plugin.studies.gain.spread import (
    Gain,
    Spread,
    paired_gain,
    ranges_apart,
    share_of,
    spread_of,
)


@dataclass(frozen=True)
class RowSummary:
    """What one row came to.

    Attributes:
        row: which.
        spreads: metric key -> mean and spread over seeds, scaled; without what is not evaluated yet.
        gain: over the student alone, None for itself.
        beyond_head: over the row that inherits the head only, None for that row and where there is none.
        inherited: share of the gain that the inherited head alone explains.
        of_gap: gain as a share of the gap between teacher and student.
        cpu_ratio: CPU time of the training relative to the student alone.
        step_ratio: time of a step on the clock relative to the student alone.
        memory_ratio: peak memory relative to the student alone, of the GPU where there is one.
    """

    row: Row
    spreads: dict[str, Spread]
    gain: Gain | None
    beyond_head: Gain | None
    inherited: float | None
    of_gap: float | None
    cpu_ratio: float | None
    step_ratio: float | None
    memory_ratio: float | None


@dataclass(frozen=True)
class Verdict:
    """A goal, and whether it is met; None when there is not enough to tell."""

    text: str
    met: bool | None


@dataclass(frozen=True)
class Summary:
    """What one pair came to.

    Attributes:
        result: where it comes from.
        teacher: metric key -> scaled value, empty before it is evaluated.
        gap: what the teacher leads the mean of the students alone by.
        rows: the student alone first.
        verdicts: on all goals.
    """

    result: PairResult
    teacher: dict[str, float]
    gap: float | None
    rows: list[RowSummary]
    verdicts: list[Verdict]


def summarize(result: PairResult, family: Family) -> Summary:
    """Work out everything there is to say about a pair."""
    headline = family.headline
    teacher = {}
    if result.teacher is not None:
        teacher = {metric.key: metric.scale * result.teacher[metric.key] for metric in family.metrics}
    alone = spread_of(result.values(result.pair.student.name, headline).values())
    gap = teacher[headline.key] - alone.mean if teacher and alone else None
    rows = [_summarize_row(row, result, family, gap) for row in result.rows]
    return Summary(result, teacher, gap, rows, judge(result, rows, gap, family))


def _summarize_row(row: Row, result: PairResult, family: Family, gap: float | None) -> RowSummary:
    values = {metric.key: result.values(row.name, metric) for metric in family.metrics}
    gain = _gain(row.name, result.pair.student.name, result, family.headline)
    head = _gain(result.pair.inherit, result.pair.student.name, result, family.headline)
    taught = row.name not in (result.pair.student.name, result.pair.inherit)
    beyond = _gain(row.name, result.pair.inherit, result, family.headline) if taught else None
    costs, base = result.costs[row.name], result.costs[result.pair.student.name]
    on_gpu = any(cost.gpu_bytes for cost in costs.values())
    return RowSummary(
        row,
        {key: spread for key, found in values.items() if (spread := spread_of(found.values()))},
        gain,
        beyond,
        share_of(head.mean, gain.mean) if taught and head and gain else None,
        share_of(gain.mean, gap) if gain is not None and gap is not None else None,
        ratio_of(costs, base, 'cpu_seconds'),
        ratio_of(costs, base, 'step_seconds'),
        ratio_of(costs, base, 'gpu_bytes' if on_gpu else 'peak_bytes'),
    )


def _gain(row: str | None, base: str | None, result: PairResult, metric: Metric) -> Gain | None:
    """Gain of a row over another one; None when they are the same, or one was not asked for."""
    if row == base or row not in result.metrics or base not in result.metrics:
        return None
    return paired_gain(result.values(base, metric), result.values(row, metric))


def judge(result: PairResult, rows: list[RowSummary], gap: float | None, family: Family) -> list[Verdict]:
    """Compare with the goals.

    Args:
        result: of the pair.
        rows: its summaries.
        gap: between teacher and student.
        family: whose first metric gains are counted in.
    """
    pair, verdicts, headline = result.pair, [], family.headline
    if pair.least_gap is not None:
        text = (
            f'{pair.teacher.title} leads {pair.student.title} by {_signed(gap)}, goal >= {pair.least_gap:g}'
        )
        verdicts.append(Verdict(text, None if gap is None else gap >= pair.least_gap))
    for summary in rows:
        row = summary.row
        if row.goal is not None:
            verdicts.append(_judge_gain(summary, pair.goals_beyond_head))
            verdicts.append(_judge_ranges(row, pair.student, result, headline))
    for names in pair.rivals:
        better, worse = (_named(name, result, headline) for name in names)
        if better and worse:
            verdicts.append(_judge_ranges(better, worse, result, headline))
            if names in pair.leads:
                verdicts.append(_judge_lead(better, worse, pair.leads[names], result, headline))
    for *names, key in pair.lowers:
        (metric,) = (metric for metric in family.metrics if metric.key == key)
        better, worse = (_named(name, result, headline) for name in names)
        if better and worse:
            verdicts.append(_judge_lower(better, worse, result, metric))
    return verdicts


def _named(name: str, result: PairResult, headline: Metric) -> Row | None:
    """A row by its name, or the best of those that the name stands for; None where it was not asked for."""
    rows = [row for one in result.pair.best_of.get(name, (name,)) if (row := result.row(one))]
    means = {
        row.name: spread.mean
        for row in rows
        if (spread := spread_of(result.values(row.name, headline).values()))
    }
    return max(rows, key=lambda row: means.get(row.name, -math.inf), default=None)


def _judge_gain(summary: RowSummary, beyond_head: bool) -> Verdict:
    """Whether a row gains what it should."""
    row, gain = summary.row, summary.beyond_head if beyond_head else summary.gain
    over = ' beyond the inherited head' if beyond_head else ''
    text = f'{row.title} gains {_signed(gain and gain.mean)}{over}, goal >= {_signed(row.goal)}'
    return Verdict(text, None if gain is None else gain.mean >= row.goal)


def _judge_lead(better: Row, worse: Row, goal: float, result: PairResult, metric: Metric) -> Verdict:
    """Whether one row leads another by as much as it should, on the mean of their seeds."""
    lead = _gain(better.name, worse.name, result, metric)
    text = f'{better.title} leads {worse.title} by {_signed(lead and lead.mean)}, goal >= {_signed(goal)}'
    return Verdict(text, None if lead is None else lead.mean >= goal)


def _judge_lower(better: Row, worse: Row, result: PairResult, metric: Metric) -> Verdict:
    """Whether one row has less of a metric than another, on the mean of their seeds."""
    change = _gain(better.name, worse.name, result, metric)
    shown = 'not known' if change is None else f'{change.mean:+.{metric.digits}f}'
    text = f'{better.title} changes the {metric.title} of {worse.title} by {shown}, goal < 0'
    return Verdict(text, None if change is None else change.mean < 0)


def _judge_ranges(better: Row, worse: Row, result: PairResult, metric: Metric) -> Verdict:
    """Whether one row is above another whatever the seed."""
    high, low = result.values(better.name, metric), result.values(worse.name, metric)
    text = f'{better.title} ({_range(high)}) is above {worse.title} ({_range(low)}) for all seeds'
    return Verdict(text, ranges_apart(high.values(), low.values()))


def _signed(value: float | None) -> str:
    return 'not known' if value is None else f'{value:+.2f}'


def _range(values: dict[int, float]) -> str:
    """From the least to the most."""
    ends = (
        [f'{value:.2f}' for value in sorted({min(values.values()), max(values.values())})] if values else []
    )
    return ' to '.join(ends) or 'not known'


def as_json(summary: Summary) -> dict[str, Any]:
    """A summary and the runs below it as plain data; metrics as the evaluation wrote them."""
    result = summary.result
    rows = {}
    for row in summary.rows:
        content = asdict(row)
        content['title'], content['config'] = row.row.title, row.row.config
        content['goal'] = content.pop('row')['goal']
        costs = {seed: asdict(cost) for seed, cost in result.costs[row.row.name].items()}
        content['runs'] = {
            seed: {'metrics': metrics, 'cost': costs.get(seed)}
            for seed, metrics in result.metrics[row.row.name].items()
        }
        rows[row.row.name] = content
    return {
        'teacher': {
            'title': result.pair.teacher.title,
            'config': result.pair.teacher.config,
            'metrics': result.teacher,
        },
        **({'other_teachers': result.others} if result.others else {}),
        'gap': summary.gap,
        'rows': rows,
        'goals': [asdict(verdict) for verdict in summary.verdicts],
    }

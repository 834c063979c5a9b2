"""A summary as rows of text, for the terminal and for the report."""

from rich.console import Console
from rich.table import Table

from projects.mmdet3d_plugin.studies.gain.families import Family, Metric
from projects.mmdet3d_plugin.studies.gain.spread import Gain, Spread
from projects.mmdet3d_plugin.studies.gain.summary import RowSummary, Summary, Verdict

GAIN_COLUMNS = ('gain', '95 % interval', 'beyond the head', 'by the head alone', 'of the gap')
COST_COLUMNS = ('training of', 'CPU time', 'step time', 'peak memory')
WORDS = {True: 'met', False: 'missed', None: 'cannot be told'}
COLOURS = {True: 'green', False: 'red', None: 'yellow'}


def gain_columns(family: Family) -> list[str]:
    """Headings of :func:`gain_rows`."""
    return ['model', family.headline.title, *GAIN_COLUMNS]


def gain_rows(summary: Summary, family: Family) -> list[list[str]]:
    """The teacher and each row: the first metric, gain, interval and shares."""
    headline = family.headline
    score = headline.format(summary.teacher[headline.key]) if summary.teacher else '-'
    teacher = [summary.result.pair.teacher.title, score, *['-'] * len(GAIN_COLUMNS)]
    return [teacher, *(_gain_row(row, headline) for row in summary.rows)]


def _gain_row(row: RowSummary, headline: Metric) -> list[str]:
    return [
        row.row.title,
        spread_text(row.spreads.get(headline.key), headline),
        _signed(row.gain),
        interval_text(row.gain),
        _signed(row.beyond_head),
        _percent(row.inherited),
        _percent(row.of_gap),
    ]


def cost_rows(summary: Summary) -> list[list[str]]:
    """Below ``COST_COLUMNS``: what the training of each row takes relative to the student alone."""
    return [
        [row.row.title, *(_times(ratio) for ratio in (row.cpu_ratio, row.step_ratio, row.memory_ratio))]
        for row in summary.rows
    ]


def metric_rows(summary: Summary, family: Family) -> list[list[str]]:
    """The teacher and each row: mean and spread of every metric."""
    teacher = [
        metric.format(summary.teacher[metric.key]) if summary.teacher else '-' for metric in family.metrics
    ]
    rows = [[summary.result.pair.teacher.title, *teacher]]
    for other in summary.result.pair.others:
        if found := summary.result.others.get(other.name):
            rows.append([other.title, *(m.format(m.scale * found[m.key]) for m in family.metrics)])
    for row in summary.rows:
        rows.append([row.row.title, *(spread_text(row.spreads.get(m.key), m) for m in family.metrics)])
    return rows


def metric_columns(family: Family) -> list[str]:
    """Headings of :func:`metric_rows`."""
    return ['model', *(metric.title for metric in family.metrics)]


def run_columns(family: Family) -> list[str]:
    """Headings of :func:`run_rows`."""
    return ['run', *metric_columns(family)[1:], 'CPU s', 's', 'ms/step', 'peak MiB', 'attempts']


def run_rows(summary: Summary, family: Family) -> list[list[str]]:
    """Each evaluated run by itself, with what its training took."""
    rows = []
    for row in summary.result.rows:
        for seed, metrics in sorted(summary.result.metrics[row.name].items()):
            figures = [metric.format(metric.scale * metrics[metric.key]) for metric in family.metrics]
            cost = summary.result.costs[row.name].get(seed)
            taken = ['-'] * 5
            if cost is not None:
                memory = (cost.gpu_bytes or cost.peak_bytes) / 2**20
                taken = [f'{cost.cpu_seconds:.0f}', f'{cost.seconds:.0f}', f'{1000 * cost.step_seconds:.0f}']
                taken += [f'{memory:.0f}', str(cost.attempts)]
            rows.append([f'{row.title}, seed {seed}', *figures, *taken])
    return rows


def verdict_rows(verdicts: list[Verdict]) -> list[list[str]]:
    """Goals and whether they are met."""
    return [[verdict.text, WORDS[verdict.met]] for verdict in verdicts]


def notes(summary: Summary) -> list[str]:
    """What a reader should know beside the figures."""
    seeds = sorted({seed for found in summary.result.metrics.values() for seed in found})
    said = []
    if len(seeds) == 1:
        said.append('One seed: no spread, no interval, and ranges cannot be compared.')
    costs = [cost for found in summary.result.costs.values() for cost in found.values()]
    if any(cost.attempts > 1 for cost in costs):
        said.append('Trainings that were interrupted take no part in the comparison of CPU time.')
    return said


def spread_text(spread: Spread | None, metric: Metric) -> str:
    """Mean and standard deviation; '-' for nothing."""
    if spread is None:
        return '-'
    deviation = '' if spread.deviation is None else f' ± {metric.format(spread.deviation)}'
    return metric.format(spread.mean) + deviation


def interval_text(gain: Gain | None) -> str:
    """Both ends of the interval; '-' when there is none."""
    if gain is None or gain.interval is None:
        return '-'
    return '{:+.2f} to {:+.2f}'.format(*gain.interval)


def _signed(gain: Gain | None) -> str:
    return '-' if gain is None else f'{gain.mean:+.2f}'


def _percent(share: float | None) -> str:
    return '-' if share is None else f'{100 * share:.0f} %'


def _times(ratio: float | None) -> str:
    return '-' if ratio is None else f'{ratio:.2f}x'


def print_summary(summary: Summary, family: Family, console: Console) -> None:
    """All tables, the goals and the notes."""
    name = summary.result.pair.teacher.title
    for title, columns, rows in (
        (f'{name}: {family.headline.title} over seeds', gain_columns(family), gain_rows(summary, family)),
        ('All metrics, mean and standard deviation', metric_columns(family), metric_rows(summary, family)),
        ('Cost relative to the student alone', COST_COLUMNS, cost_rows(summary)),
    ):
        table = Table(title=title, title_justify='left')
        for column in columns:
            table.add_column(column, justify='left' if column == columns[0] else 'right')
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for verdict in summary.verdicts:
        console.print(f'[{COLOURS[verdict.met]}]{WORDS[verdict.met]:>14}[/]  {verdict.text}', highlight=False)
    for note in notes(summary):
        console.print(note)

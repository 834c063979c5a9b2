"""The HTML report of a comparison."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from projects.mmdet3d_plugin.studies.gain import tables
from projects.mmdet3d_plugin.studies.gain.families import Family, Row
from projects.mmdet3d_plugin.studies.gain.plan import Plan, PlannedPair
from projects.mmdet3d_plugin.studies.gain.results import PairResult
from projects.mmdet3d_plugin.studies.gain.summary import Summary
from projects.mmdet3d_plugin.studies.pictures.closeness import Closeness
from projects.mmdet3d_plugin.studies.provenance import add_provenance
from projects.mmdet3d_plugin.studies.stages import StageRunner
from projects.mmdet3d_plugin.visualization.closeness_view import draw_closeness
from projects.mmdet3d_plugin.visualization.gain_chart import GainBar, draw_gains
from projects.mmdet3d_plugin.visualization.loss_curves import (
    LINE_COLOURS,
    TrainingLog,
    draw_curves,
    read_training_log,
)
from projects.mmdet3d_plugin.visualization.report import Report
from projects.mmdet3d_plugin.visualization.style import save_figure

Curve = tuple[np.ndarray, np.ndarray]


def write_page(plan: Plan, runner: StageRunner, summaries: Sequence[Summary]) -> Path:
    """Write ``report.html`` and return its path."""
    options, family = plan.options, plan.options.family
    report = Report(
        'What distillation gains',
        f'One teacher per world, the same student once per row and seed, on a synthetic world '
        f'({family.name}, world seed {options.world_seed}). Equal iterations, order of data and initial weights '
        'per seed. The figures compare recipes; they say nothing about real data.',
    )
    for planned, summary in zip(plan.pairs, summaries, strict=True):
        _add_result(report, summary, family)
        _add_curves(report, planned, summary.result)
        _add_closeness(report, planned, plan)
        _add_pictures(report, planned, plan)
    add_provenance(report, runner, _facts(plan))
    return report.write(options.out / 'report.html')


def _add_result(report: Report, summary: Summary, family: Family) -> None:
    """Cards, goals, tables and the chart of gains."""
    headline, pair = family.headline, summary.result.pair
    cards = {
        f'{headline.title}, {pair.teacher.title}': tables.gain_rows(summary, family)[0][1],
        f'{headline.title}, {pair.student.title}': _mean(summary, 0, family),
    }
    gains = {f'gained by {row.row.title}': f'{row.gain.mean:+.2f}' for row in summary.rows if row.gain}
    report.heading(f'{pair.teacher.title} and {pair.student.title}')
    report.cards({**cards, **gains})
    report.table(tables.gain_columns(family), tables.gain_rows(summary, family))
    report.paragraph(
        f'Points of {headline.title}: mean ± standard deviation over seeds. Gains over the student alone are paired '
        'by seed, with the 95 % interval of their mean by Student\'s t. "Beyond the head" is the gain over the row '
        'that inherits the head of the teacher and is taught nothing, "by the head alone" the share of the gain that '
        'this row has too; "of the gap" is the gain as a share of what the teacher leads the student alone by.'
    )
    for note in tables.notes(summary):
        report.paragraph(note)
    bars = gain_bars(summary)
    if bars:
        caption = 'Bars: means. Whiskers: 95 % intervals. Dots: seeds. Dashes: goals.'
        report.charts({caption: draw_gains(bars, f'{headline.title} gained over the student alone')})
    report.heading('Goals')
    report.table(['goal', 'verdict'], tables.verdict_rows(summary.verdicts))
    report.heading('All metrics')
    report.table(tables.metric_columns(family), tables.metric_rows(summary, family))
    report.heading('Cost of training')
    report.table(tables.COST_COLUMNS, tables.cost_rows(summary))
    report.paragraph(
        'Relative to the student alone, mean over seeds. CPU time is of all cores and what other programs disturb '
        'least; the time of a step is on the clock, next to whatever else was running; memory is resident memory, or '
        'the memory of the GPU where there is one.'
    )
    report.heading('Every run')
    report.table(tables.run_columns(family), tables.run_rows(summary, family))


def gain_bars(summary: Summary) -> list[GainBar]:
    """Gains in the colours that the rows have in the curves; goals beyond the head begin where that row's bar ends."""
    pair = summary.result.pair
    head = next((row.gain.mean for row in summary.rows if row.row.name == pair.inherit and row.gain), 0.0)
    start = head if pair.goals_beyond_head else 0.0
    return [
        GainBar(
            row.row.title,
            row.gain.mean,
            row.gain.half_width,
            list(row.gain.differences.values()),
            None if row.row.goal is None else start + row.row.goal,
            LINE_COLOURS[number % len(LINE_COLOURS)],
        )
        for number, row in enumerate(summary.rows)
        if row.gain
    ]


def _mean(summary: Summary, number: int, family: Family) -> str:
    """Mean of the first metric of a row, without its spread."""
    spread = summary.rows[number].spreads.get(family.headline.key)
    return '-' if spread is None else family.headline.format(spread.mean)


def _add_curves(report: Report, planned: PlannedPair, result: PairResult) -> None:
    """Detection loss of all rows, and the terms of each, as means over seeds."""
    logs = {row.title: _mean_log(row, planned, result) for row in result.rows}
    logs = {title: log for title, log in logs.items() if log is not None}
    alone = logs.get(result.pair.student.title)
    if alone is None:
        return
    report.heading('Training')
    own = alone.loss_names()
    charts = {
        f'Detection loss: sum of the {len(own)} losses that the student alone has too, mean over seeds.': draw_curves(
            {
                title: (log.epochs, np.sum([log.values[name] for name in own], axis=0))
                for title, log in logs.items()
            },
            'detection loss',
        )
    }
    for title, log in logs.items():
        terms = {name: (log.epochs, log.values[name]) for name in log.loss_names() if name not in own}
        if terms:
            charts[f'Terms: {title}.'] = draw_curves(terms, f'terms, {title}', log_scale=True)
    report.charts(charts)


def _mean_log(row: Row, planned: PlannedPair, result: PairResult) -> TrainingLog | None:
    """Training log of a row, the mean over the seeds whose training is finished; None when none is."""
    logs = [read_training_log(planned.students[row.name, seed].logs) for seed in result.costs[row.name]]
    if not logs:
        return None
    entries = min(len(log.epochs) for log in logs)
    values = {
        name: np.mean([log.values[name][:entries] for log in logs], axis=0)
        for name in logs[0].values
        if all(name in log.values for log in logs)
    }
    return TrainingLog(logs[0].epochs[:entries], values)


def _add_closeness(report: Report, planned: PlannedPair, plan: Plan) -> None:
    """Where on the map the students of the first seed are closer to the teacher than with the inherited head alone."""
    seed, pair = plan.options.scale.seeds[0], planned.choice.pair
    found = {
        row: Closeness.read(plan.closeness(planned.students[row.name, seed]))
        for row in planned.choice.rows
        if plan.closeness(planned.students[row.name, seed]).is_file()
    }
    if not found:
        return
    report.heading('Where students came closer to the teacher')
    samples = next(iter(found.values())).samples
    report.paragraph(
        f'BEV features on {samples} frames of validation, seed {seed}: mean square of the difference, in units of the '
        "teacher's own mean square, where objects stand and elsewhere."
    )
    rows = [[row.title, f'{c.inside:.3f}', f'{c.outside:.3f}'] for row, c in found.items()]
    report.table(['row', 'gap where objects are', 'elsewhere'], rows, {1: min, 2: min})
    base = next((c for row, c in found.items() if row.name == pair.inherit), None)
    maps = {row.title: 1 - c.gap / base.gap for row, c in found.items() if base is not None and c is not base}
    if maps:
        path = save_figure(draw_closeness(maps, base.pc_range), plan.options.out / 'closeness' / 'map.png')
        report.picture(path, 'Share of the gap of the inherited head that is closed, cell by cell; up is +y.')


def _add_pictures(report: Report, planned: PlannedPair, plan: Plan) -> None:
    """The same moment as the teacher and each row of the first seed see it."""
    pictures = [
        (picture, run.title) for run in planned.runs for picture in sorted(plan.pictures(run).glob('*.jpg'))
    ]
    if not pictures:
        return
    report.heading('Pictures')
    report.paragraph('One moment of a validation scene. Coloured: detected. White: true.')
    for picture, title in pictures:
        report.picture(picture, title)


def _facts(plan: Plan) -> dict[str, str]:
    """What was compared, on which world."""
    options = plan.options
    scale = options.scale
    rows = [row for choice in options.choices for row in (choice.pair.teacher, *choice.rows)]
    return {
        'world': options.world_in_words,
        'teacher': str(options.teacher) if options.teacher else f'{scale.teacher_epochs} epochs',
        'students': f'{scale.epochs} epochs, seeds {", ".join(map(str, scale.seeds))}',
        'configs': ', '.join(f'{row.title}: {row.config}' for row in rows),
        'overrides': ' '.join((*scale.overrides, *options.overrides)) or 'none',
    }

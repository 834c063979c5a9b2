"""Metrics as a table for people."""

import math

from rich.console import Console
from rich.table import Table

POINTS = ('NDS', 'mAP')  # shown in points, 0 to 100, as papers do
ERRORS = ('mATE', 'mASE', 'mAOE', 'mAVE', 'mAAE')


def print_metrics(metrics: dict[str, float], title: str, console: Console | None = None) -> None:
    """Print one evaluation: NDS and mAP in points, the five errors of true positives, and AP per class.

    Args:
        metrics: as ``dataset.evaluate`` returns them, fractions; per-class AP under 'AP/<class>'.
        title: what was evaluated.
        console: where to print, stdout by default.
    """
    console = console or Console()
    known = [name for name in (*POINTS, *ERRORS) if name in metrics]
    console.print(make_table({title: {name: metrics[name] for name in known}}))
    per_class = {name.removeprefix('AP/'): value for name, value in metrics.items() if name.startswith('AP/')}
    if per_class:
        table = Table(title='AP per class', title_justify='left')
        table.add_column('class')
        table.add_column('AP', justify='right')
        for name, value in per_class.items():
            table.add_row(name, f'{100 * value:.2f}')
        console.print(table)


def make_table(rows: dict[str, dict[str, float]], first: str = 'model') -> Table:
    """A table with one row per model.

    Args:
        rows: metrics by the name of the model; NDS and mAP as fractions.
        first: heading of the names' column.
    """
    columns = list(dict.fromkeys(name for metrics in rows.values() for name in metrics))
    table = Table()
    table.add_column(first)
    for name in columns:
        table.add_column(name, justify='right')
    for model, metrics in rows.items():
        table.add_row(model, *(format_metric(name, metrics.get(name, math.nan)) for name in columns))
    return table


def format_metric(name: str, value: float) -> str:
    """A metric as papers print it; '-' when it is not known."""
    if math.isnan(value):
        return '-'
    return f'{100 * value:.2f}' if name in POINTS else f'{value:.3f}'

"""Metrics as a table for people."""

import math
import re

from rich.console import Console
from rich.table import Table

POINTS = ('NDS', 'mAP')  # shown in points, 0 to 100, as papers do
COCO = ('mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')  # shown in points too
ERRORS = ('mATE', 'mASE', 'mAOE', 'mAVE', 'mAAE')
FILE_WIDTH = 160

# KITTI's metrics: mAP_3d_R40_moderate is a mean over classes, AP_3d_R40_moderate_loose/Car is of one
_KITTI = re.compile(r'm?AP_(\w+)_(R\d+)_(easy|moderate|hard)(_loose)?(?:/(.+))?$')


def make_console() -> Console:
    """stdout as wide as the terminal; in a file or a pipe wide enough for every table, which rich would cut at 80."""
    console = Console()
    return console if console.is_terminal else Console(width=FILE_WIDTH)


def print_metrics(metrics: dict[str, float], title: str, console: Console | None = None) -> None:
    """Print one evaluation: NDS and mAP (of 2D boxes also at one overlap and by size) in points, the five errors of true positives, and AP per class.

    KITTI's metrics get a table for each way to average over recall.

    Args:
        metrics: as ``dataset.evaluate`` returns them, fractions; per-class AP under 'AP/<class>'.
        title: what was evaluated.
        console: where to print, stdout by default.
    """
    console = console or make_console()
    known = [name for name in (*POINTS, *COCO, *ERRORS) if name in metrics]
    if known:
        console.print(make_table({title: {name: metrics[name] for name in known}}))
    for table in kitti_tables(metrics, title):
        console.print(table)
    per_class = {name.removeprefix('AP/'): value for name, value in metrics.items() if name.startswith('AP/')}
    if per_class:
        table = Table(title='AP per class', title_justify='left')
        table.add_column('class')
        table.add_column('AP', justify='right')
        for name, value in per_class.items():
            table.add_row(name, f'{100 * value:.2f}')
        console.print(table)


def kitti_tables(metrics: dict[str, float], title: str) -> list[Table]:
    """Tables of KITTI's metrics in points, one for each of R40 and R11; a row per class and metric.

    Args:
        metrics: fractions by name, as ``evaluate_kitti`` returns them; others are left out.
        title: what was evaluated.
    """
    rows: dict[str, dict[tuple[str, str], dict[str, float]]] = {}
    for name, value in metrics.items():
        if found := _KITTI.match(name):
            metric, recall, difficulty, loose, of = found.groups()
            row = rows.setdefault(recall, {}).setdefault((of or 'mean', metric), {})
            row[f'{difficulty}{" loose" if loose else ""}'] = value
    return [_kitti_table(f'{title}: KITTI AP {recall}', rows[recall]) for recall in rows]


def _kitti_table(title: str, rows: dict[tuple[str, str], dict[str, float]]) -> Table:
    """One table; the columns are those of any row, strict overlaps first."""
    columns = sorted(dict.fromkeys(name for row in rows.values() for name in row), key=lambda n: 'loose' in n)
    table = Table(title=title, title_justify='left', show_edge=False)  # fits into 80 columns
    table.add_column('class', min_width=max(len(of) for of, _ in rows))
    table.add_column('metric')
    for name in columns:
        table.add_column(name.replace(' ', '\n'), justify='right')
    for (of, metric), row in sorted(rows.items(), key=lambda item: item[0][0]):
        values = (row.get(column, math.nan) for column in columns)
        table.add_row(of, metric, *(format_metric('mAP', value) for value in values))
    return table


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
    """A metric as papers print it; '-' when it is not known.

    Example:
        >>> format_metric('NDS', 0.5176), format_metric('mATE', 0.6725), format_metric('NDS', math.nan)
        ('51.76', '0.672', '-')
    """
    if math.isnan(value):
        return '-'
    return f'{100 * value:.2f}' if name in (*POINTS, *COCO) or _KITTI.match(name) else f'{value:.3f}'

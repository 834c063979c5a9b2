"""Waymo's metric for anybody's boxes: two JSON files in, a table out. Waymo's own data and tools are not needed."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from projects.mmdet3d_plugin.command_line.parsers import parse_waymo_eval
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import read_json, write_json
from projects.mmdet3d_plugin.common.tables import make_console
from projects.mmdet3d_plugin.evaluation.waymo_metric import OVERLAPS, Frame, evaluate_waymo

_TRUTH = {'boxes': (7,), 'names': (), 'num_points': ()}
_FOUND = {'boxes': (7,), 'names': (), 'scores': ()}


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of tools/analysis_tools/waymo_eval.py; a problem with a file is one line and exit status 2."""
    arguments = parse_waymo_eval(argv)
    try:
        overlaps = dict(_overlap(text) for text in arguments.overlap) or dict(OVERLAPS)
        metrics = evaluate_files(arguments.truth, arguments.detections, overlaps)
        if arguments.json:
            write_json(arguments.json, metrics, indent=2)
    except (UserError, FileNotFoundError) as error:
        print(f'error: {error}', file=sys.stderr)
        raise SystemExit(2) from None
    make_console().print(_table(metrics, overlaps))
    return 0


def evaluate_files(
    truth: Path, detections: Path, overlaps: dict[str, float] | None = None
) -> dict[str, float]:
    """Score one JSON file of boxes against another.

    Args:
        truth: a list of frames with ``boxes`` (n, 7), ``names`` (n,), ``num_points`` (n,) and optionally
            ``difficulty`` (n,).
        detections: the same frames with ``boxes`` (m, 7), ``names`` (m,) and ``scores`` (m,) in 0..1.
        overlaps: as for :func:`evaluate_waymo`.

    Returns:
        Metrics of :func:`evaluate_waymo` that are known; a class without objects has none.

    Raises:
        UserError: a file is damaged, the two do not fit, or no class has an object to find.
    """
    overlaps = overlaps or dict(OVERLAPS)
    labels, found = _read(truth, _TRUTH), _read(detections, _FOUND)
    if len(labels) != len(found):
        raise UserError(
            f'{truth} has {len(labels)} frames, {detections} has {len(found)}: they must be the same'
        )
    metrics = evaluate_waymo(labels, found, overlaps)
    known = {key: value for key, value in metrics.items() if not math.isnan(value)}
    if not known:
        present = sorted({str(name) for frame in labels for name in frame['names']})
        raise UserError(
            f'{truth} has no object of {", ".join(overlaps)} with a LiDAR point; its names are '
            f'{", ".join(present) or "none"}: say --overlap CLASS=IOU'
        )
    return known


def _overlap(text: str) -> tuple[str, float]:
    name, _, value = text.partition('=')
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not (name and 0 < number < 1):
        raise UserError(f'--overlap {text}: say a class and an overlap between 0 and 1, as in Truck=0.7')
    return name, number


def _read(path: Path, columns: dict[str, tuple[int, ...]]) -> list[Frame]:
    """Frames of a JSON file with all columns, as long as each other and finite."""
    frames = read_json(path)
    if not isinstance(frames, list):
        raise UserError(f'{path} should hold a list of frames')
    return [_frame(f'{path}, frame {number}', frame, columns) for number, frame in enumerate(frames)]


def _frame(place: str, frame: Any, columns: dict[str, tuple[int, ...]]) -> Frame:
    lacking = [key for key in columns if not isinstance(frame, dict) or key not in frame]
    if lacking:
        raise UserError(f'{place} lacks {", ".join(lacking)}')
    if not isinstance(frame['names'], list):
        raise UserError(f'{place}: names should be a list')
    count = len(frame['names'])
    for key in (*columns, *({'difficulty'} & frame.keys())):
        width = columns.get(key, ())
        try:
            values = np.asarray(frame[key], dtype=str if key == 'names' else np.float64).reshape(-1, *width)
        except (ValueError, TypeError):
            raise UserError(
                f'{place}: {key} should hold {width[0] if width else 1} numbers per object'
            ) from None
        if len(values) != count:
            raise UserError(f'{place} has {len(values)} {key} for {count} names')
        if key != 'names' and not np.isfinite(values).all():
            raise UserError(f'{place}: {key} are not finite')
        if key == 'boxes' and not (values[:, 3:6] > 0).all():
            raise UserError(f'{place}: a box has no size')
        if key == 'scores' and not ((values >= 0) & (values <= 1)).all():
            raise UserError(f'{place}: a score is not between 0 and 1')
    return frame


def _table(metrics: dict[str, float], overlaps: dict[str, float]) -> Table:
    """Points, 0 to 100, a row per class and one for the means over those that have objects."""
    table = Table(title="Waymo's protocol", title_justify='left')
    table.add_column('class')
    kinds = ('AP_L1', 'APH_L1', 'AP_L2', 'APH_L2')
    for kind in kinds:
        table.add_column(kind, justify='right')
    known = [name for name in overlaps if f'AP_L2/{name}' in metrics]
    rows = [(name, '', f'/{name}') for name in overlaps] + [(f'mean of {", ".join(known)}', 'm', '')]
    for title, before, after in rows:
        values = (metrics.get(f'{before}{kind}{after}') for kind in kinds)
        table.add_row(title, *('-' if value is None else f'{100 * value:.2f}' for value in values))
    return table

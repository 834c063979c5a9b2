"""``tools/analysis_tools/bank_quality.py``: a table of how good banks are, and a page with pictures."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmcv import Config
from rich.table import Table

from projects.mmdet3d_plugin.command_line.parsers import parse_bank_quality
from projects.mmdet3d_plugin.common.config import innermost_datasets, load_config
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import hash_file, write_json
from projects.mmdet3d_plugin.common.tables import make_console
from projects.mmdet3d_plugin.datasets.sparse.derived_set import require_same_split
from projects.mmdet3d_plugin.datasets.sparse.instance_bank import InstanceBank
from projects.mmdet3d_plugin.datasets.transforms.remove_points import RemovePoints
from projects.mmdet3d_plugin.engine import cli
from projects.mmdet3d_plugin.engine.self_training.mine import MinedFrames
from projects.mmdet3d_plugin.engine.self_training.settings import SelfTraining
from projects.mmdet3d_plugin.studies.provenance import machine
from projects.mmdet3d_plugin.studies.self_training.bank_quality import (
    OVERLAPS,
    BankQuality,
    ClassQuality,
    TrueFrame,
    assess,
)
from projects.mmdet3d_plugin.visualization.bank_view import BankFrame, draw_bank_frame
from projects.mmdet3d_plugin.visualization.bev_view import View
from projects.mmdet3d_plugin.visualization.report import Report
from projects.mmdet3d_plugin.visualization.style import save_figure

COLUMNS = (
    'bank, class', 'labels', 'hidden', 'mined', *(f'precision @{o}' for o in OVERLAPS),
    *(f'recall @{o}' for o in OVERLAPS), 'centre, m', 'size, %', 'heading, °', 'other class', 'poison',
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of tools/analysis_tools/bank_quality.py."""
    cli.run(_judge, parse_bank_quality(argv))


def _judge(arguments: argparse.Namespace) -> None:
    """Judge banks as parsed arguments say."""
    cfg = load_config(arguments.config, arguments.cfg_options, arguments.data_root)
    banks = [InstanceBank.load(path) for path in arguments.banks]
    frames = true_frames(cfg, banks[0])
    for bank in banks[1:]:
        if bank.header['split'] != banks[0].header['split']:
            raise UserError(
                f'{arguments.banks[0]} and {arguments.banks[banks.index(bank)]} are of two splits'
            )
    qualities = [assess(bank, frames) for bank in banks]
    make_console().print(quality_table(qualities))
    if arguments.json:
        figures = [quality.as_json() for quality in qualities]
        record = dict(command=shlex.join(('python', *sys.argv)), machine=machine(), banks=figures)
        write_json(arguments.json, record, indent=1)
    if arguments.out:
        page = write_page(qualities, banks, frames, view_of(cfg), arguments.out, arguments.samples)
        print(f'page: {page.resolve()}')


def view_of(cfg: Config) -> View:
    """What a detector of a config sees, from above."""
    dataset = next(innermost_datasets(cfg.data.test))
    return View.of(dataset['point_cloud_range'], 0.0)


def true_frames(cfg: Config, bank: InstanceBank) -> list[TrueFrame]:
    """The whole truth of the frames of a sparse split: objects of the bank's classes in range that some point hits.

    Args:
        cfg: with ``self_training``.
        bank: mined from that split.

    Raises:
        UserError: the bank is of another split, or the full info file is missing or another one.
    """
    mined = MinedFrames(cfg, SelfTraining.from_config(cfg))
    require_same_split(bank, mined.file)
    layout, classes = mined.split.layout, bank.header['classes']
    full = mined.root / layout.file_name('train')
    if hash_file(full) != mined.split.record['source']:
        # rows of kept objects are those of the file that the split was made from
        raise UserError(
            f'{full} has changed since {mined.split.record_file} was made from it: make the split and the bank again'
        )
    infos = {layout.frame(info): info for info in layout.infos(layout.read(full))}
    limits = np.array(next(innermost_datasets(cfg.data.test))['point_cloud_range'])
    frames = []
    for place, frame in enumerate(mined.split.kept):
        info = infos[frame]
        names, boxes = layout.names(info), layout.boxes(info).astype(np.float64)
        kept = np.isin(np.arange(len(names)), mined.split.kept[frame])
        seen = np.isin(names, classes) & (layout.point_counts(info) > 0)
        seen &= ((boxes[:, :2] > limits[:2]) & (boxes[:, :2] < limits[3:5])).all(1)
        labels = np.array([classes.index(name) for name in names[seen]], np.int64)
        frames.append(
            TrueFrame(frame, boxes[seen], labels, kept[seen], lambda place=place: mined.points(place))
        )
    return frames


def quality_rows(qualities: Sequence[BankQuality]) -> list[list[str]]:
    """Cells of a table, see ``COLUMNS``."""
    return [
        [f'{quality.iteration}, {name}', *_cells(row)]
        for quality in qualities
        for name, row in quality.classes.items()
    ]


def _cells(row: ClassQuality) -> list[str]:
    shares = (f'{share:.2f}' for share in (*row.precision, *row.recall))
    return [
        *(str(count) for count in (row.annotated, row.hidden, row.accepted)),
        *('-' if share == 'nan' else share for share in shares),
        *(
            '-' if np.isnan(error) else f'{error:.{digits}f}'
            for error, digits in ((row.centre, 2), (100 * row.size, 1), (row.heading, 1))
        ),
        str(row.confused),
        str(row.poison),
    ]


def quality_table(qualities: Sequence[BankQuality]) -> Table:
    """The table for a terminal, and which background was lost."""
    lost = '; '.join(
        f'bank {q.iteration}: {q.removed} points removed, {q.lost} of them of no object' for q in qualities
    )
    table = Table(
        title='Banks against hidden labels', caption=lost, title_justify='left', caption_justify='left'
    )
    for column in COLUMNS:
        table.add_column(column, justify='left' if column == COLUMNS[0] else 'right')
    rows = quality_rows(qualities)
    for row in rows:
        table.add_row(*row, end_section=row[0].endswith(', all'))
    return table


def write_page(
    qualities: Sequence[BankQuality],
    banks: Sequence[InstanceBank],
    frames: Sequence[TrueFrame],
    view: View,
    out: Path,
    samples: int,
) -> Path:
    """Write ``index.html`` with the table and pictures of frames, spread evenly; returns its path.

    Args:
        qualities: of the banks.
        banks: in the order of their iterations; pictures are of the last.
        frames: the truth.
        view: what is drawn.
        out: folder of the page and its pictures.
        samples: how many frames.
    """
    last = qualities[-1]
    report = Report(
        'Instance bank',
        'What a detector mined beside the labels of a sparse split, judged by the labels that were hidden from it.',
    )
    whole = last.classes['all']
    report.cards(
        {
            f'mined by bank {last.iteration}': str(whole.accepted),
            f'precision at {OVERLAPS[0]}': _percent(whole.precision[0]),
            f'recall of hidden objects at {OVERLAPS[0]}': _percent(whole.recall[0]),
            'hidden objects that still count as background': str(whole.poison),
            'of the removed points, background': _percent(
                last.lost / last.removed if last.removed else np.nan
            ),
        }
    )
    report.heading('By class')
    report.table(COLUMNS, quality_rows(qualities))
    report.paragraph(
        'Precision: accepted objects that lie on an object of their class, each object once. Recall: hidden objects that '
        'were found. Errors are means over what was right at the lower overlap. Poison: hidden objects that are neither '
        'mined nor in a box whose points are removed, so that they are taught as background.'
    )
    report.heading('Thresholds')
    report.table(*_threshold_rows(banks))
    report.heading(f'Frames of bank {last.iteration}')
    report.gallery(_draw(banks[-1], frames, view, out, samples))
    return report.write(out / 'index.html')


def _threshold_rows(banks: Sequence[InstanceBank]) -> tuple[list[str], list[list[str]]]:
    """What the thresholds of each bank were, and from how many labels they come."""
    rows = [
        [
            f'{bank.header["iteration"]}, {name}',
            f'{limits["score"]:.3f}',
            f'{limits["consistency"]:.2f}',
            str(limits['labels_found']),
            ' / '.join(f'{centre:.3f}' for centre in limits['centres']),
        ]
        for bank in banks
        for name, limits in bank.header['thresholds'].items()
    ]
    return ['bank, class', 'score', 'consistency', 'labels found', 'centres of their scores'], rows


def _draw(
    bank: InstanceBank, frames: Sequence[TrueFrame], view: View, out: Path, samples: int
) -> dict[str, Path]:
    """Pictures by caption."""
    pictures = {}
    places = np.unique(np.linspace(0, len(frames) - 1, min(samples, len(frames))).round().astype(int))
    for frame in (frames[place] for place in places):
        shown = bank_frame(bank, frame)
        path = save_figure(draw_bank_frame(shown, view), out / f'{frame.frame}.png')
        counts = (len(shown.accepted), len(shown.unsure), int(shown.gone.sum()), len(shown.hidden))
        pictures[
            f'{frame.frame}: {counts[0]} accepted, {counts[1]} unsure, {counts[2]} points removed; '
            f'{counts[3]} hidden objects'
        ] = path
    return pictures


def bank_frame(bank: InstanceBank, frame: TrueFrame) -> BankFrame:
    """What there is to draw of a frame."""
    rows = bank.in_frame(frame.frame)
    unsure, points = bank.box[rows[bank.unsure[rows]]], frame.points()
    return BankFrame(
        points,
        RemovePoints().inside(points, unsure),
        _centred(frame.boxes[frame.kept]),
        _centred(frame.boxes[~frame.kept]),
        _centred(bank.box[rows[bank.accepted[rows]]]),
        _centred(unsure),
    )


def _centred(boxes: np.ndarray) -> np.ndarray:
    """(n, 7) boxes with gravity centres in place of bottom ones."""
    raised = np.array(boxes, np.float64)
    raised[:, 2] += raised[:, 5] / 2
    return raised


def _percent(share: float) -> str:
    return '-' if np.isnan(share) else f'{100 * share:.0f} %'

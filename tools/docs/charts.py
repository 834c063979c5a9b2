"""Figures of the documentation that are drawn from ``benchmarks/*.json``: python -m tools.docs.charts."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.docs.results import Record, near_records

FIGS = Path(__file__).resolve().parents[2] / 'figs'


@dataclass(frozen=True)
class GainPoint:
    """What a recipe gained under a teacher.

    Attributes:
        teacher: its NDS.
        mean: NDS of the students beyond those with the inherited head, over seeds.
        single: the same, seed by seed.
    """

    teacher: float
    mean: float
    single: Sequence[float]

    @property
    def text(self) -> str:
        """The mean, as the figure has it."""
        return f'{self.mean:+.2f}'


def gains_by_teacher(records: Sequence[Record]) -> dict[str, list[GainPoint]]:
    """Per recipe that was run under every teacher, what it taught beyond the inherited head; from the weakest teacher up."""
    pairs = [content['pairs']['teacher'] for content in records]
    pairs.sort(key=lambda pair: pair['teacher']['metrics']['NDS'])
    shared = [name for name in pairs[0]['rows'] if all(name in pair['rows'] for pair in pairs)]
    rows = {name: [pair['rows'][name] for pair in pairs] for name in shared}
    return {
        of_one[0]['title']: [
            GainPoint(
                100 * pair['teacher']['metrics']['NDS'],
                row['beyond_head']['mean'],
                list(row['beyond_head']['differences'].values()),
            )
            for pair, row in zip(pairs, of_one, strict=True)
        ]
        for of_one in rows.values()
        if all(row['beyond_head'] for row in of_one)
    }


def draw_gains_by_teacher(gains: dict[str, list[GainPoint]], path: Path) -> None:
    """Gain against the teacher's own score: a line per recipe, a dot per seed."""
    # seconds, which --help should not wait for
    import matplotlib
    from matplotlib.figure import Figure

    from projects.mmdet3d_plugin.common.files import write_file
    from projects.mmdet3d_plugin.visualization.loss_curves import LINE_COLOURS

    figure = Figure(figsize=(7.2, 4.2), facecolor='white')
    ax = figure.add_subplot()
    for colour, (title, points) in zip(LINE_COLOURS, gains.items(), strict=False):
        ax.plot(
            [point.teacher for point in points], [point.mean for point in points], color=colour, label=title
        )
        for point in points:
            ax.plot(
                [point.teacher] * len(point.single), point.single, 'o', color=colour, alpha=0.5, markersize=4
            )
            ax.annotate(
                point.text, (point.teacher, point.mean), xytext=(6, 6), textcoords='offset points', fontsize=8
            )
    ax.axhline(0, color='#888888', linewidth=0.8)
    ax.set_xlabel('NDS of the teacher')
    ax.set_ylabel('NDS beyond the inherited head')
    ax.spines[['top', 'right']].set_visible(False)
    ax.legend(frameon=False, fontsize=9)
    figure.tight_layout()
    with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': path.name}):
        write_file(path, lambda file: figure.savefig(file, format='svg', metadata={'Date': None}), sync=False)


if __name__ == '__main__':
    argparse.ArgumentParser(description=__doc__.partition(':')[0]).parse_args()
    draw_gains_by_teacher(gains_by_teacher(near_records()), FIGS / 'gain_by_teacher.svg')

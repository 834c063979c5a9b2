"""A chart of gains with their intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from projects.mmdet3d_plugin.visualization.loss_curves import (
    LINE_COLOURS,
    TEXT_COLOUR,
    figure_to_svg,
    style_chart,
)


@dataclass(frozen=True)
class GainBar:
    """One gain.

    Attributes:
        label: whose.
        mean: of the gain.
        half_width: of its interval, None where there is none.
        single: the gains that it is the mean of.
        goal: what it should be, if anything.
        colour: of the bar and its dots.
    """

    label: str
    mean: float
    half_width: float | None
    single: Sequence[float]
    goal: float | None = None
    colour: str = LINE_COLOURS[0]


def draw_gains(bars: Sequence[GainBar], xlabel: str, width: float = 8.0) -> str:
    """Gains as bars with intervals, single gains as dots and goals as dashes; an SVG element.

    Args:
        bars: from top to bottom.
        xlabel: what is gained.
        width: inches.
    """
    figure = Figure(figsize=(width, 0.9 + 0.55 * len(bars)))
    ax = figure.add_subplot()
    for place, bar in enumerate(bars):
        ax.barh(place, bar.mean, height=0.6, color=bar.colour, alpha=0.45)
        if bar.half_width is not None:
            ax.errorbar(bar.mean, place, xerr=bar.half_width, color=TEXT_COLOUR, capsize=4, linewidth=1.4)
        ax.plot(bar.single, [place] * len(bar.single), 'o', color=bar.colour, markersize=5)
        if bar.goal is not None:
            ax.plot([bar.goal] * 2, [place - 0.4, place + 0.4], '--', color=TEXT_COLOUR, linewidth=1.2)
    ax.axvline(0, color=TEXT_COLOUR, linewidth=0.8)
    ax.set_yticks(range(len(bars)), [bar.label for bar in bars])
    ax.invert_yaxis()
    ax.set_xlabel(xlabel)
    style_chart(ax)
    figure.tight_layout()
    return figure_to_svg(figure, salt=xlabel)

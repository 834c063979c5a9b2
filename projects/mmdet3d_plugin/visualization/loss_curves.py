"""Training curves from the ``.log.json`` files that mmcv's text logger writes."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Stands for "the colour of the text around the chart" until the SVG is written.
TEXT_COLOUR = '#010203'
LINE_COLOURS = ('#3b82f6', '#f59e0b', '#10b981', '#ec4899', '#8b5cf6', '#ef4444', '#14b8a6', '#a3a312')


@dataclass
class TrainingLog:
    """What was logged while training.

    Attributes:
        epochs: (n,) position of each entry, in epochs.
        values: name -> (n,) values, NaN where an entry does not have it.
        scores: name -> list of (epoch, value) from evaluations during training.
    """

    epochs: np.ndarray
    values: dict[str, np.ndarray]
    scores: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def names(self, word: str) -> list[str]:
        """Names of the values that contain ``word``."""
        return [name for name in self.values if word in name]

    def loss_names(self) -> list[str]:
        """Names of the single losses, not of their sum."""
        return [name for name in self.names('loss') if name != 'loss' and not name.endswith('loss_scale')]


def read_training_log(work_dir: Path) -> TrainingLog:
    """Join the logs of a run and of its resumptions; what was repeated after a crash counts once, cut lines not at all.

    Raises:
        FileNotFoundError: there is no log with training entries.
    """
    files = sorted(work_dir.glob('*.log.json'))
    lines = [
        entry
        for file in files
        for entry in map(_entry, file.read_text(errors='replace').splitlines())
        if entry
    ]
    training = {(entry['epoch'], entry['iter']): entry for entry in lines if entry.get('mode') == 'train'}
    if not training:
        raise FileNotFoundError(f'no *.log.json with training entries in {work_dir}')
    entries = [training[key] for key in sorted(training)]
    per_epoch = max(entry['iter'] for entry in entries)
    epochs = np.array([entry['epoch'] - 1 + entry['iter'] / per_epoch for entry in entries])
    names = dict.fromkeys(name for entry in entries for name, value in entry.items() if _is_number(value))
    values = {name: np.array([entry.get(name, np.nan) for entry in entries], float) for name in names}
    return TrainingLog(epochs, values, _scores(lines))


def _entry(line: str) -> dict:
    """One line of a log; nothing where a crash of the machine cut it off."""
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _scores(lines: Sequence[dict]) -> dict[str, list[tuple[float, float]]]:
    """Evaluation entries by name."""
    scores: dict[str, list[tuple[float, float]]] = {}
    for entry in lines:
        if entry.get('mode') == 'val':
            for name, value in entry.items():
                if _is_number(value) and name not in ('epoch', 'iter', 'lr'):
                    scores.setdefault(name, []).append((entry['epoch'], value))
    return scores


def smooth(values: np.ndarray, share: float = 0.05) -> np.ndarray:
    """Centred moving average over a share of all entries; ends use what there is.

    Args:
        values: (n,).
        share: width of the window as a share of n.

    Example:
        >>> smooth(np.array([0.0, 3.0, 0.0]), share=1.0)
        array([1.5, 1. , 1.5])
    """
    width = max(1, round(len(values) * share)) | 1
    weights = np.ones(width)
    known = np.isfinite(values)
    total = np.convolve(np.where(known, values, 0), weights, mode='full')
    count = np.convolve(known.astype(float), weights, mode='full')
    half = width // 2
    with np.errstate(invalid='ignore', divide='ignore'):
        return (total / count)[half : half + len(values)]


def draw_curves(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    ylabel: str,
    log_scale: bool = False,
    size: tuple[float, float] = (5.6, 3.2),
) -> str:
    """Line chart as an SVG element that takes the text colour of the page it is put into.

    Args:
        curves: label -> (x (n,) in epochs, y (n,)); y is drawn smoothed over a faint original.
        ylabel: what y is.
        log_scale: logarithmic y axis.
        size: inches.
    """
    figure = Figure(figsize=size)
    ax = figure.add_subplot()
    for (label, (x, y)), colour in zip(curves.items(), LINE_COLOURS * 4, strict=False):
        ax.plot(x, y, color=colour, linewidth=0.8, alpha=0.3)
        ax.plot(x, smooth(y), color=colour, linewidth=1.8, label=label)
    if log_scale:
        ax.set_yscale('log')
    ax.set_xlabel('epoch')
    ax.set_ylabel(ylabel)
    ax.legend(frameon=False, fontsize=8, labelcolor=TEXT_COLOUR)
    style_chart(ax)
    figure.tight_layout()
    return figure_to_svg(figure, salt=ylabel + ''.join(curves))


def style_chart(ax: Axes) -> None:
    """Quiet grid, two spines, everything in the colour of the text around the chart."""
    ax.grid(color=TEXT_COLOUR, alpha=0.15, linewidth=0.6)
    for name, spine in ax.spines.items():
        spine.set_visible(name in ('left', 'bottom'))
        spine.set_color(TEXT_COLOUR)
    ax.tick_params(which='both', colors=TEXT_COLOUR, labelsize=8)
    for label in (ax.xaxis.label, ax.yaxis.label):
        label.set(color=TEXT_COLOUR, fontsize=9)


def figure_to_svg(figure: Figure, salt: str) -> str:
    """The ``<svg>`` element of a figure without a background.

    Args:
        figure: whose ``TEXT_COLOUR`` becomes the page's.
        salt: makes ids of several charts on one page differ, and be the same in every run.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': salt, 'font.family': 'sans-serif'}):
        figure.savefig(buffer, format='svg', transparent=True, metadata={'Date': None})
    text = buffer.getvalue()
    return text[text.index('<svg') :].replace(TEXT_COLOUR, 'currentColor')

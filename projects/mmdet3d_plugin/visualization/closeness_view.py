"""Maps of how much closer students came to their teacher."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure


def draw_closeness(maps: Mapping[str, np.ndarray], pc_range: Sequence[float], width: float = 3.0) -> Figure:
    """One map per row, in percent of the gap that is closed.

    Args:
        maps: title -> (H, W) share of the gap that is closed, row = y, column = x; negative where it grew.
        pc_range: x0, y0, z0, x1, y1, z1 in metres, what the maps cover.
        width: inches of one map.
    """
    figure = Figure(figsize=(width * len(maps) + 0.6, width + 0.3), layout='constrained')
    axes = figure.subplots(1, len(maps), squeeze=False, sharey=True)[0]
    most = 100 * max(np.abs(values).max() for values in maps.values())
    x0, y0, _, x1, y1, _ = pc_range
    for ax, (title, values) in zip(axes, maps.items(), strict=True):
        image = ax.imshow(
            100 * values, cmap='RdBu', vmin=-most, vmax=most, origin='lower', extent=(x0, x1, y0, y1)
        )
        ax.plot(0, 0, 'k^', markersize=5)
        ax.set_title(title, fontsize=9)
        ax.set_xlabel('x, m')
    axes[0].set_ylabel('y, m')
    figure.colorbar(image, ax=list(axes), label='% of the gap closed', shrink=0.8)
    return figure

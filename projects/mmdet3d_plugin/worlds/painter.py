"""Back-to-front order of things that do not touch: exact where one exists, nearest-last where things lie in a ring."""

import numpy as np


def paint_order(may_hide: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Order in which to paint, from the back to the front.

    Args:
        may_hide: (n, n) bool, [i, j] true when i may hide a piece of j.
        distance: (n,) distance to the viewer, which settles what the relation leaves open.

    Returns:
        (n,) indices, what may be hidden first.
    """
    closure = may_hide.astype(np.float32)
    # Paths double in length with every round; whoever hides more, directly or not, comes later.
    for _ in range(len(closure).bit_length()):
        closure = np.minimum(closure + closure @ closure, 1)
    return np.lexsort((-distance, closure.sum(1)))


def footprints_hide(corners: np.ndarray, viewer: np.ndarray) -> np.ndarray:
    """Which upright boxes may hide which, from their footprints.

    Two disjoint rectangles lie on either side of the line through some side of one of them, and a thing beyond a line
    cannot hide what is on the viewer's own side of it.

    Args:
        corners: (n, 4, 2) footprints, counter-clockwise, metres.
        viewer: (2,) in the same frame.

    Returns:
        (n, n) bool, [i, j] true when i may hide a piece of j.
    """
    sides = np.roll(corners, -1, axis=1) - corners
    normals = np.stack([sides[..., 1], -sides[..., 0]], axis=-1)
    offsets = (normals * corners).sum(-1)
    # gap[i, k, j]: from the line through side k of i out to the nearest corner of j.
    gap = (normals[:, :, None, None] * corners[None, None]).sum(-1).min(-1) - offsets[..., None]
    stand = ((normals * viewer).sum(-1) - offsets)[..., None]
    apart = gap >= -1e-6
    cannot = (apart & (stand >= 0)).any(1) | (apart & (stand <= gap)).any(1).T
    np.fill_diagonal(cannot, True)
    return ~cannot


def boxes_hide(bounds: np.ndarray, viewer: np.ndarray) -> np.ndarray:
    """Which axis-aligned boxes may hide which; as ``footprints_hide``, with planes across the axes.

    Args:
        bounds: (n, 2, 3) lowest and highest corners of boxes that do not overlap.
        viewer: (3,) in the same frame.

    Returns:
        (n, n) bool, [i, j] true when i may hide a piece of j.

    Example:
        >>> bounds = np.array([[[1, -1, 0], [2, 1, 2]], [[5, -1, 0], [6, 1, 2]]])
        >>> boxes_hide(bounds, np.zeros(3))
        array([[False,  True],
               [False, False]])
    """
    low, high = bounds[:, 0], bounds[:, 1]
    apart = low[:, None] >= high[None] - 1e-9  # [i, j, axis]: i lies beyond j
    cannot = (apart & (viewer <= low)[:, None]).any(-1) | (apart & (viewer >= high)[None]).any(-1).T
    np.fill_diagonal(cannot, True)
    return ~cannot

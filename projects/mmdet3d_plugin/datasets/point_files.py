"""Files of point clouds: 32-bit floats, point by point. Nothing in them says how many there are per point."""

from pathlib import Path

import numpy as np

from projects.mmdet3d_plugin.common.errors import UserError

_FARTHEST = 1e4  # metres, of a point
_NEAREST = 1e-6  # metres, of points in their majority
_TELLING = 10  # points that it takes to recognise a layout
# kind of number and how many there are per point: what clouds of others are made of
_LAYOUTS = (
    (np.float32, 4), (np.float32, 5), (np.float64, 4), (np.float64, 5), (np.float16, 4), (np.float16, 5),
    (np.float32, 6), (np.float32, 3),
)  # fmt: skip


def read_points(path: Path, load_dim: int = 4) -> np.ndarray:
    """Points of a file; numbers that are not finite come as they are.

    Args:
        path: 32-bit floats.
        load_dim: numbers per point: x, y, z in metres, then, if there are more, an intensity and whatever follows.

    Returns:
        (N, load_dim) float32.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the file holds another number of columns, 64-bit or 16-bit floats; the message says which it looks
            like.

    Example:
        >>> import numpy as np
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp()) / '000000.bin'
        >>> np.array([[9, 1, -1, 0.5], [8, 2, -1, 0.25]], np.float32).tofile(path)
        >>> read_points(path).shape
        (2, 4)
    """
    content = path.read_bytes()
    points = _as_points(content, np.float32, load_dim)
    if points is not None and _plausible(points):
        return points
    if like := _other_layout(content, load_dim):
        kind, columns = like
        fits = kind == np.float32 and columns > 3
        mend = (
            f'say load_dim={columns} (--load-dim {columns} of tools/create_data.py)'
            if fits
            else 'store x, y, z and intensity as 32-bit floats'
        )
        raise UserError(
            f'{path} does not hold {load_dim} 32-bit floats per point; it looks like {columns} '
            f'{8 * np.dtype(kind).itemsize}-bit floats: {mend}'
        )
    if points is None:
        raise UserError(
            f'{path} does not hold whole points ({load_dim} 32-bit floats each): it is damaged, copy or unpack it '
            'again, or its points have another number of values: say load_dim'
        )
    if _far(points).any():
        raise UserError(
            f'{path} holds points beyond {_FARTHEST / 1000:g} km: these are no {load_dim} 32-bit floats per point in '
            'metres; copy or unpack it again'
        )
    return points  # negative intensities, and no layout that would explain them better


def recognise_load_dim(path: Path) -> int:
    """32-bit floats per point of a file that nobody has said it of: 4, unless it can only be another number.

    Raises:
        FileNotFoundError: there is no such file.
    """
    content = path.read_bytes()
    points = _as_points(content, np.float32, 4)
    if points is not None and _plausible(points):
        return 4
    kind, columns = _other_layout(content, 4) or (np.float32, 4)
    return columns if kind == np.float32 and columns > 4 else 4


def describe_intensities(path: Path, points: np.ndarray) -> str | None:
    """What there is to say of a cloud in KITTI's layout whose intensities are not KITTI's, 0 to 1.

    Args:
        path: its file.
        points: (N, 4) or more.

    Returns:
        A sentence, or None where nothing is odd.

    Example:
        >>> describe_intensities(Path('000000.bin'), np.array([[9, 1, -1, 0.5]]))
    """
    brightest = np.max(points[:, 3], initial=0, where=np.isfinite(points[:, 3]))
    if brightest <= 1:
        return None
    scale = 255 if brightest <= 255 else brightest
    return (
        f"{path} has intensities up to {brightest:g}, KITTI's are from 0 to 1: a detector that was trained on others "
        f'will not find much; divide them by {scale:g} (all clouds alike), or train on them as they are'
    )


def finite_rows(points: np.ndarray) -> np.ndarray:
    """(N,) bool, points (N, C) of which all numbers are finite.

    Example:
        >>> finite_rows(np.array([[1.0, 2, 3], [np.nan, 2, 3]]))
        array([ True, False])
    """
    return np.isfinite(points).all(1)


def _as_points(content: bytes, kind: type, columns: int) -> np.ndarray | None:
    """(N, columns), or None where bytes would be left over."""
    whole = len(content) % (np.dtype(kind).itemsize * columns) == 0
    return np.frombuffer(content, kind).reshape(-1, columns).copy() if whole else None


def _plausible(points: np.ndarray) -> bool:
    """Whether columns can be x, y, z in metres and, where there is a fourth, an intensity, which is never negative."""
    # 16-bit floats read as 64-bit ones are next to nothing
    if (np.abs(points[:, :3]).max(1) < _NEAREST).sum() > 0.5 * len(points) or _far(points).any():
        return False
    return points.shape[1] < 4 or (points[:, 3] < 0).sum() <= 0.01 * len(points)


def _far(points: np.ndarray) -> np.ndarray:
    """(N, 3) bool, finite coordinates that no LiDAR reaches."""
    return (np.abs(points[:, :3]) > _FARTHEST) & ~np.isinf(points[:, :3])


def _other_layout(content: bytes, load_dim: int) -> tuple[type, int] | None:
    """The first kind of number and count per point, other than ``load_dim`` 32-bit floats, that content can be."""
    for kind, columns in _LAYOUTS:
        points = _as_points(content, kind, columns)
        if (kind, columns) == (np.float32, load_dim) or points is None or len(points) < _TELLING:
            continue
        # Without an intensity there is less to go by: neighbours in the file should be neighbours in space.
        if _plausible(points) and (columns > 3 or _jump(content, 3) < _jump(content, load_dim) / 2):
            return kind, columns
    return None


def _jump(content: bytes, lag: int) -> float:
    """How far numbers that lie ``lag`` apart in a file usually are from each other."""
    numbers = np.frombuffer(content, np.float32)
    return float(np.median(np.abs(numbers[lag:] - numbers[:-lag])))

"""The one place that knows two conventions for 3D boxes, and how a box becomes the 10 numbers a head regresses.

==========  =======================================  ==================================================
name        box                                      used by
==========  =======================================  ==================================================
``v1.0``    ``(x, y, z, l, w, h, yaw, vx, vy)``      mmdet3d >= 1.0, everything outside this file
``legacy``  ``(x, y, z, w, l, h, r, vx, vy)``        mmdet3d < 1.0: published BEVFormer weights and infos
==========  =======================================  ==================================================

``r = -yaw - pi/2``, which is its own inverse. Boxes live in the LiDAR frame (x right, y forward, z up; metres) and
``z`` is the centre of gravity. ``yaw`` turns counter-clockwise from x.

A head with published weights predicts legacy codes. Decoding them as legacy and converting the box keeps the weights
as they are. Equivalently, the last layer of every regression branch can be re-ordered once: rows
``[0, 1, 3, 2, 4, 5, 7, 6, 8, 9]`` with rows 6 and 7 negated, because ``sin(r) = -cos(yaw)`` and ``cos(r) = -sin(yaw)``.
"""

import math
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

BOX_CONVENTIONS = ('v1.0', 'legacy')
CODE_SIZE = 10  # numbers that a head regresses per box
Array = TypeVar('Array', Tensor, np.ndarray)

_MIN_SPEED = 1.0  # m/s; below it the direction of a labelled velocity is noise
_MIN_MOVING = 5
_MAX_HEADING_ERROR = 0.8  # rad; right conventions measure about 0.02, wrong ones about pi/2


def check_convention(convention: str) -> str:
    """Return the name unchanged, or raise a ValueError that lists the valid ones.

    Example:
        >>> check_convention('legacy')
        'legacy'
    """
    if convention not in BOX_CONVENTIONS:
        raise ValueError(f'unknown box convention {convention!r}; choose one of {", ".join(BOX_CONVENTIONS)}')
    return convention


def convert_boxes(boxes: Array, source: str, target: str) -> Array:
    """Express boxes of one convention in the other; columns from 7 on (velocities) stay as they are.

    Args:
        boxes: (..., 7 + k) such as (N, 9), LiDAR frame. The heights (z) may be any origin: they are not touched.
        source: convention of ``boxes``.
        target: convention wanted.

    Returns:
        (..., 7 + k), a new array of the same kind, also when nothing changes.

    Example:
        >>> box = torch.tensor([[10.0, 5.0, -1.0, 4.0, 2.0, 1.5, 0.0, 3.0, 0.0]])
        >>> convert_boxes(box, 'v1.0', 'legacy')[0, 3:7].tolist()
        [2.0, 4.0, 1.5, -1.5707963705062866]
    """
    check_convention(source), check_convention(target)
    out = boxes.clone() if isinstance(boxes, Tensor) else np.array(boxes)
    if source != target:
        out[..., 3], out[..., 4] = boxes[..., 4], boxes[..., 3]
        out[..., 6] = -boxes[..., 6] - math.pi / 2
    return out


def encode_boxes(boxes: Array, convention: str) -> Array:
    """Turn boxes into the regression target of BEVFormer and DETR3D heads.

    Args:
        boxes: (..., 9) in convention v1.0 with gravity centres, LiDAR frame, metres, radians, m/s.
        convention: the convention of the head that is trained.

    Returns:
        (..., 10) codes ``(x, y, log size0, log size1, z, log h, sin, cos, vx, vy)``; sizes are (l, w) for v1.0
        and (w, l) for legacy, the angle is yaw or ``-yaw - pi/2``.

    Example:
        >>> box = torch.tensor([10.0, 5.0, -1.0, 1.0, 1.0, 1.0, 0.0, 3.0, 0.0])
        >>> encode_boxes(box, 'v1.0').tolist()
        [10.0, 5.0, 0.0, 0.0, -1.0, 0.0, 0.0, 1.0, 3.0, 0.0]
    """
    b = convert_boxes(boxes, 'v1.0', convention)
    lib = torch if isinstance(b, Tensor) else np
    columns = [b[..., 0], b[..., 1], lib.log(b[..., 3]), lib.log(b[..., 4]), b[..., 2], lib.log(b[..., 5])]
    return lib.stack([*columns, lib.sin(b[..., 6]), lib.cos(b[..., 6]), b[..., 7], b[..., 8]], -1)


def decode_boxes(codes: Array, convention: str) -> Array:
    """Turn regressed codes back into boxes: the inverse of :func:`encode_boxes`.

    Args:
        codes: (..., 10) such as (N, 10), see :func:`encode_boxes`; sine and cosine need no unit length.
        convention: the convention of the head that made the codes.

    Returns:
        (..., 9) boxes in convention v1.0 with gravity centres, yaw in [-pi, pi).

    Example:
        >>> box = torch.tensor([10.0, 5.0, -1.0, 4.0, 2.0, 1.5, 0.5, 3.0, 0.0])
        >>> torch.allclose(decode_boxes(encode_boxes(box, 'legacy'), 'legacy'), box)
        True
    """
    c = codes
    lib = torch if isinstance(c, Tensor) else np
    atan2 = torch.atan2 if isinstance(c, Tensor) else np.arctan2
    columns = [c[..., 0], c[..., 1], c[..., 4], lib.exp(c[..., 2]), lib.exp(c[..., 3]), lib.exp(c[..., 5])]
    boxes = lib.stack([*columns, atan2(c[..., 6], c[..., 7]), c[..., 8], c[..., 9]], -1)
    boxes = convert_boxes(boxes, convention, 'v1.0')
    boxes[..., 6] = (boxes[..., 6] + math.pi) % (2 * math.pi) - math.pi
    return boxes


def convert_codes(codes: Tensor, source: str, target: str) -> Tensor:
    """Express codes of one convention in the other, see :func:`encode_boxes`; gradients flow.

    Args:
        codes: (..., 10) such as (N, 10).
        source: convention of ``codes``.
        target: convention wanted.

    Returns:
        (..., 10).

    Example:
        >>> box = torch.tensor([10.0, 5.0, -1.0, 4.0, 2.0, 1.5, 0.5, 3.0, 0.0])
        >>> turned = convert_codes(encode_boxes(box, 'legacy'), 'legacy', 'v1.0')
        >>> torch.allclose(turned, encode_boxes(box, 'v1.0'))
        True
    """
    if check_convention(source) == check_convention(target):
        return codes
    x, y, first, second, z, height, sine, cosine, *velocity = codes.unbind(-1)
    return torch.stack([x, y, second, first, z, height, -cosine, -sine, *velocity], -1)


def heading_error(boxes: Array, convention: str) -> float:
    """Median angle between heading and velocity of the moving boxes, in radians; NaN with too few of them.

    Args:
        boxes: (n, 9) in ``convention``, LiDAR frame.
        convention: the convention the boxes are believed to have.

    Example:
        >>> boxes = np.tile([0, 0, 0, 4, 2, 1.5, 0, 10, 0], (5, 1))  # they head and drive along x
        >>> heading_error(boxes, 'v1.0')
        0.0
        >>> round(heading_error(boxes, 'legacy'), 2)
        1.57
    """
    values = boxes.detach().cpu().numpy() if isinstance(boxes, Tensor) else np.asarray(boxes)
    b = convert_boxes(values.astype(np.float64), convention, 'v1.0')
    b = b[np.hypot(b[:, 7], b[:, 8]) > _MIN_SPEED]
    if len(b) < _MIN_MOVING:
        return math.nan
    difference = b[:, 6] - np.arctan2(b[:, 8], b[:, 7])
    return float(np.median(np.abs((difference + np.pi) % (2 * np.pi) - np.pi)))


def check_heading(boxes: Array, convention: str) -> float:
    """Raise when moving boxes do not point where they go, the mark of a wrong box convention.

    Args:
        boxes: (n, 9) in ``convention``, LiDAR frame. NaN velocities count as standing.
        convention: the convention the boxes are believed to have.

    Returns:
        The median error in radians; NaN when fewer than five boxes move, and nothing can be said.

    Example:
        >>> check_heading(np.tile([0, 0, 0, 4, 2, 1.5, 0, 10, 0], (5, 1)), 'v1.0')
        0.0
    """
    error = heading_error(boxes, convention)
    if error > _MAX_HEADING_ERROR:
        other = BOX_CONVENTIONS[1 - BOX_CONVENTIONS.index(convention)]
        raise ValueError(
            f'boxes read as {convention!r} point {error:.2f} rad away from where they move (median): '
            f'they are probably in the {other!r} convention'
        )
    return error

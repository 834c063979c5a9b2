"""Look-ups in several levels of feature maps, weighted and summed by row.

DETR3D's cross-attention: a row is a query, its look-ups are the cameras that see its reference point. Only those are
looked at, no sampled feature is kept, and all decoder layers add to one gradient of the maps.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from projects.mmdet3d_plugin.common.precision import at_least_float32
from projects.mmdet3d_plugin.ops import library

OPERATOR = 'gather_maps'


class FeatureMaps:
    """L levels of N feature maps, made ready once for any number of :func:`gather_maps`.

    The compiled kernels read channels-last maps where they lie; others are turned around. Plain torch reads one table.

    Args:
        levels: L tensors (N, C, h, w).
    """

    def __init__(self, levels: Sequence[Tensor]) -> None:
        if not levels or any(level.dim() != 4 or level.shape[:2] != levels[0].shape[:2] for level in levels):
            raise ValueError(
                f'levels must be L tensors (N, C, h, w) of one N and C, got {[tuple(x.shape) for x in levels]}.'
            )
        self.shapes = [tuple(level.shape[-2:]) for level in levels]
        self.maps, self.channels = levels[0].shape[:2]
        levels = [at_least_float32(level) for level in levels]
        self.dtype, self.device = levels[0].dtype, levels[0].device
        self.compiled = library.serves(levels[0], OPERATOR)
        self.levels = levels
        if not self.compiled:
            self.table = torch.cat([level.permute(0, 2, 3, 1).reshape(-1, self.channels) for level in levels])
            return
        levels = [level.contiguous(memory_format=torch.channels_last) for level in levels]
        self.levels = [level.detach() for level in levels]
        self.gradient = _Gradient()
        self.ticket = _Share.apply(self.gradient, *levels)


def gather_maps(
    maps: FeatureMaps, locations: Tensor, weights: Tensor, pair_map: Tensor, pair_row: Tensor, rows: int
) -> Tensor:
    """Sum bilinear look-ups over the levels of a pair and over the pairs of a row.

    ``out[r] = sum_{k: pair_row[k] = r} sum_l weights[k, l] * maps_l[pair_map[k]](locations[k])``; outside a map is 0, and a
    location that is not finite adds nothing.

    Args:
        maps: L levels of N maps with C channels.
        locations: (K, 2), (x, y) in units of map width and height, the same for all levels.
        weights: (K, L).
        pair_map: (K,) int64, in [0, N).
        pair_row: (K,) int64, in [0, R), sorted.
        rows: R.

    Returns:
        (R, C), float32 or float64 as the maps.

    Example:
        >>> maps = FeatureMaps([torch.arange(4.0).view(1, 1, 2, 2)])
        >>> first = torch.zeros(1, dtype=torch.long)
        >>> gather_maps(maps, torch.full((1, 2), 0.5), torch.full((1, 1), 2.0), first, first, rows=2)
        tensor([[3.],
                [0.]])
    """
    count = len(locations)
    wanted = dict(
        locations=(count, 2), weights=(count, len(maps.shapes)), pair_map=(count,), pair_row=(count,)
    )
    given = dict(locations=locations, weights=weights, pair_map=pair_map, pair_row=pair_row)
    for name, shape in wanted.items():
        if given[name].shape != shape:
            raise ValueError(f'{name} must be of shape {shape}, got {tuple(given[name].shape)}.')
    cell, share = corners(maps.shapes, locations.to(maps.dtype), pair_map)
    share = share * weights.to(maps.dtype)[..., None]
    begin = F.pad(torch.bincount(pair_row, minlength=rows).cumsum(0), (1, 0))
    if maps.compiled:
        return _Gather.apply(maps.ticket, maps.gradient, cell, share.contiguous(), begin, *maps.levels)
    inside, start = cell >= 0, 0
    starts = []
    for h, w in maps.shapes:
        starts.append(start)
        start += maps.maps * h * w
    cell = (cell + cell.new_tensor(starts)[:, None]).where(inside, torch.zeros_like(cell))
    each = cell.shape[1] * cell.shape[2]
    return F.embedding_bag(
        cell.flatten(),
        maps.table,
        begin * each,
        mode='sum',
        per_sample_weights=(share * inside).flatten(),
        include_last_offset=True,
    )


def gather_seen(maps: FeatureMaps, locations: Tensor, weights: Tensor, seen: Tensor) -> Tensor:
    """Let every query look at those of its sample's N maps that show it; see :func:`gather_maps`.

    Args:
        maps: L levels of B * N maps with C channels.
        locations: (B, Q, N, 2), (x, y) in units of map width and height.
        weights: (B, Q, N, L).
        seen: (B, Q, N), bool.

    Returns:
        (B, Q, C).
    """
    if torch.onnx.is_in_onnx_export():
        return gather_all(maps, locations, weights, seen)
    b, q, n = seen.shape
    sample, query, number = seen.nonzero(as_tuple=True)
    chosen = locations[sample, query, number], weights[sample, query, number]
    return gather_maps(maps, *chosen, sample * n + number, sample * q + query, b * q).view(b, q, -1)


def gather_all(maps: FeatureMaps, locations: Tensor, weights: Tensor, seen: Tensor) -> Tensor:
    """The same as :func:`gather_seen` without indices, as a graph needs it: what is not seen is looked up and left out."""
    grid = 2 * locations.where(seen[..., None], locations.new_full((), -1.0)) - 1
    grid = grid.transpose(1, 2).flatten(0, 1)[:, :, None]  # (B * N, Q, 1, 2)
    shares = (weights * seen[..., None]).permute(3, 0, 2, 1).flatten(1, 2)[:, :, None]  # (L, B * N, 1, Q)
    shown = [
        F.grid_sample(level, grid, align_corners=False).squeeze(3) * share
        for level, share in zip(maps.levels, shares.unbind(), strict=True)
    ]
    return sum(shown[1:], shown[0]).view(*seen.shape[::2], -1, seen.shape[1]).sum(1).transpose(1, 2)


def corners(shapes: Sequence[tuple[int, int]], locations: Tensor, pair_map: Tensor) -> tuple[Tensor, Tensor]:
    """The four cells around every location and their bilinear weights.

    Args:
        shapes: L pairs ``(h, w)``.
        locations: (K, 2), (x, y) in units of map width and height; gradients flow to them.
        pair_map: (K,) int64.

    Returns:
        (K, L, 4) cells, counted through all maps of their level, -1 outside, and (K, L, 4) weights.

    Example:
        >>> cell, share = corners([(2, 2)], torch.tensor([[0.25, 0.5]]), torch.tensor([1]))
        >>> cell.tolist(), share.tolist()  # between the two cells of the second map's left column
        ([[[4, 5, 6, 7]]], [[[0.5, 0.0, 0.5, 0.0]]])
    """
    size = locations.new_tensor([(w, h) for h, w in shapes])
    place = locations[:, None] * size - 0.5
    place = place.where((place > -1) & (place < size), place.new_full((), -2.0))
    low = place.detach().floor()
    part = place - low
    step = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]], device=locations.device)
    at, size = low.long()[:, :, None] + step, size.long()[:, None]
    inside = ((at >= 0) & (at < size)).all(-1)
    cell = (pair_map[:, None, None] * size[..., 1] + at[..., 1]) * size[..., 0] + at[..., 0]
    beside = torch.stack([1 - part, part], dim=-1)
    share = (beside[..., 1, :, None] * beside[..., 0, None, :]).flatten(-2)
    return cell.where(inside, torch.full_like(cell, -1)), share


class _Gradient:
    """The gradient of the maps of one backward pass, which every look-up adds to."""

    def __init__(self) -> None:
        self._levels: list[Tensor] | None = None
        self._pass = -1

    def of(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """L tensors (N, C, h, w) to add to; zeros at the first look-up of a pass."""
        now = torch._C._current_graph_task_id()
        if self._levels is None or self._pass != now:
            shapes = [level.permute(0, 2, 3, 1).shape for level in levels]
            zeros = [level.new_zeros(shape) for level, shape in zip(levels, shapes, strict=True)]
            self._levels, self._pass = [level.permute(0, 3, 1, 2) for level in zeros], now
        return self._levels

    def take(self) -> list[Tensor] | None:
        """Hand over what this pass has added up, L tensors (N, C, h, w); None where no look-up ran."""
        levels, self._levels = self._levels, None
        return levels if self._pass == torch._C._current_graph_task_id() else None


class _Share(torch.autograd.Function):
    """Stands for the maps among the inputs of every look-up, so that autograd knows when the last has added to them."""

    @staticmethod
    def forward(ctx: FunctionCtx, gradient: _Gradient, *levels: Tensor) -> Tensor:
        ctx.gradient, ctx.count = gradient, len(levels)
        return levels[0].new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, _: Tensor) -> tuple:
        return (None, *(ctx.gradient.take() or [None] * ctx.count))


class _Gather(torch.autograd.Function):
    """The compiled look-ups."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        ticket: Tensor,
        gradient: _Gradient,
        cell: Tensor,
        share: Tensor,
        begin: Tensor,
        *levels: Tensor,
    ) -> Tensor:
        ctx.gradient = gradient
        ctx.save_for_backward(cell, share, begin, *levels)
        return torch.ops.focaldistiller.gather_maps(list(levels), cell, share, begin)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Any, ...]:
        cell, share, begin, *levels = ctx.saved_tensors
        wanted = ctx.needs_input_grad[0]
        to = ctx.gradient.of(levels) if wanted else []
        slope = torch.ops.focaldistiller.gather_maps_backward(grad, levels, cell, share, begin, to)
        ticket = grad.new_zeros(()) if wanted else None
        return (ticket, None, None, slope, None, *[None] * len(levels))

"""Lift-splat pooling: lift image features along their rays by a depth distribution and sum them up per BEV cell."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from projects.mmdet3d_plugin.ops import library


def lift_splat(
    depth: Tensor,
    context: Tensor,
    origin: Tensor,
    ray: Tensor,
    bins: Tensor,
    size: tuple[int, int],
    truncate: bool = False,
) -> Tensor:
    """``bev[cell(p, k)] += depth[p, k] * context[p]`` over all pixels p and depth bins k (LSS, "splat").

    The point of pixel p at bin k lies at ``origin + bins[k] * ray``, in cells along x and y; its height counts in
    units of the range, which it must lie in: [0, 1). Points outside are left out. Nothing of the size of all points
    is made: neighbouring bins in one cell are added at once. Geometry is float64 whatever the features are; features
    in half precision are summed up in float32.

    Args:
        depth: (B * N, D, h, w) of N views per sample, such as a softmax over D.
        context: (B * N, C, h, w).
        origin: (B, N, 3) float64.
        ray: (B, N, h, w, 3) float64, per metre of depth.
        bins: (D,) float64, metres.
        size: (H, W) cells of the grid.
        truncate: round towards zero, as BEVDepth's published weights were trained: what lies up to one cell (in
            height, one whole range) below the range is taken for the first.

    Returns:
        (B, C, H, W), row = y, column = x; channels lie together in memory (channels_last).

    Example:
        >>> depth, context = torch.tensor([0.25, 0.75]).view(1, 2, 1, 1), torch.ones(1, 1, 1, 1)
        >>> origin, ray = torch.tensor([[[0.0, 0, 0.5]]]).double(), torch.tensor([1.0, 0, 0]).double()
        >>> lift_splat(depth, context, origin, ray.view(1, 1, 1, 1, 3), torch.tensor([0.5, 2.5]).double(), (1, 3))
        tensor([[[[0.2500, 0.0000, 0.7500]]]])
    """
    _check(depth, context, origin, ray, bins)
    dtype = context.dtype
    wide = torch.float64 if torch.float64 in (depth.dtype, dtype) else torch.float32
    inputs = (depth.to(wide), context.to(wide), origin.double(), ray.double(), bins.double())
    if torch.onnx.is_in_onnx_export():
        return lift_splat_rows(*inputs, size, truncate).to(dtype)
    if not library.serves(context, 'lift_splat'):
        return lift_splat_torch(*inputs, size, truncate).to(dtype)
    return torch.ops.focaldistiller.lift_splat(*inputs, *size, truncate).to(dtype)


def lift_cells(
    origin: Tensor, ray: Tensor, bins: Tensor, size: tuple[int, int], truncate: bool = False
) -> Tensor:
    """The cell that every point of every ray falls into; arguments as of :func:`lift_splat`.

    Returns:
        (B * N, D, h, w) int32: ``(sample * H + row) * W + column``, -1 outside the range.
    """
    h, w = size
    low = -1.0 if truncate else 0.0
    batch, views, rows, columns = ray.shape[:4]
    ray = ray.flatten(0, 1).flatten(1, 2)[:, None]  # (views, 1, pixels, 3)
    start, distance = origin.flatten(0, 1)[:, None, None], bins[None, :, None]
    inside, places = [], []
    for axis, end in enumerate((w, h, 1)):
        place = torch.addcmul(start[..., axis], distance, ray[..., axis])
        inside.append((place > low if truncate else place >= low) & (place < end))
        places.append(place)
    x, y = (place.to(torch.int32) for place in places[:2])
    sample = torch.arange(batch, device=ray.device, dtype=torch.int32).repeat_interleave(views)[:, None, None]
    cells = ((sample * h + y) * w + x).where(inside[0] & inside[1] & inside[2], -1)
    return cells.view(batch * views, len(bins), rows, columns)


def lift_splat_torch(
    depth: Tensor,
    context: Tensor,
    origin: Tensor,
    ray: Tensor,
    bins: Tensor,
    size: tuple[int, int],
    truncate: bool = False,
) -> Tensor:
    """See :func:`lift_splat`; in plain torch, with features as the table of an ``embedding_bag`` and cells as bags."""
    cells = lift_cells(origin, ray, bins, size, truncate)
    pixels = torch.arange(depth[:, 0].numel(), device=depth.device).view(len(depth), 1, *depth.shape[2:])
    kept = cells >= 0
    cell, pixel, weight = cells[kept], pixels.expand_as(cells)[kept], depth[kept]
    order = torch.argsort(cell, stable=True)
    count = len(origin) * size[0] * size[1]
    ends = torch.bincount(cell, minlength=count).cumsum(0)
    bev = F.embedding_bag(
        pixel[order],
        context.permute(0, 2, 3, 1).flatten(0, 2),
        F.pad(ends, (1, 0)),
        mode='sum',
        per_sample_weights=weight[order],
        include_last_offset=True,
    )
    return bev.view(len(origin), *size, context.shape[1]).permute(0, 3, 1, 2)


def lift_splat_rows(
    depth: Tensor,
    context: Tensor,
    origin: Tensor,
    ray: Tensor,
    bins: Tensor,
    size: tuple[int, int],
    truncate: bool = False,
) -> Tensor:
    """The same as :func:`lift_splat`, as a graph needs it: every point of its own, added to the row of its cell."""
    cells = lift_cells(origin, ray, bins, size, truncate).flatten().long()
    points = (context.permute(0, 2, 3, 1)[:, None] * depth[..., None]).flatten(0, 3)
    nowhere = len(origin) * size[0] * size[1]
    bev = points.new_zeros(nowhere + 1, points.shape[1])
    bev = _AddRows.apply(bev, cells.where(cells >= 0, torch.full_like(cells, nowhere)), points)[:-1]
    return bev.view(len(origin), *size, points.shape[1]).permute(0, 3, 1, 2)


class _AddRows(torch.autograd.Function):
    """``table[index[i]] += rows[i]``, which torch's exporter would write number by number."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, table: Tensor, index: Tensor, rows: Tensor
    ) -> Tensor:
        return table.index_add(0, index, rows)

    @staticmethod
    def symbolic(g: Any, table: Any, index: Any, rows: Any) -> Any:
        last = g.op('Constant', value_t=torch.tensor([-1]))
        return g.op('ScatterND', table, g.op('Unsqueeze', index, last), rows, reduction_s='add')


def _check(depth: Tensor, context: Tensor, origin: Tensor, ray: Tensor, bins: Tensor) -> None:
    if depth.dim() != 4 or context.dim() != 4 or _but_channels(depth) != _but_channels(context):
        raise ValueError(
            f'depth must be (B * N, D, h, w) and context (B * N, C, h, w), got {tuple(depth.shape)} and '
            f'{tuple(context.shape)}.'
        )
    views, num_bins, h, w = depth.shape
    batch = origin.shape[0]
    if origin.dim() != 3 or origin.shape[0] * origin.shape[1] != views or origin.shape[2] != 3:
        raise ValueError(f'origin must be (B, N, 3) with B * N = {views}, got {tuple(origin.shape)}.')
    if ray.shape != (batch, origin.shape[1], h, w, 3):
        raise ValueError(f'ray must be {(batch, origin.shape[1], h, w, 3)}, got {tuple(ray.shape)}.')
    if bins.shape != (num_bins,):
        raise ValueError(f'bins must be ({num_bins},), got {tuple(bins.shape)}.')


def _but_channels(x: Tensor) -> tuple[int, ...]:
    return x.shape[0], *x.shape[2:]


def _fake(depth: Tensor, context: Tensor, origin: Tensor, *rest: object) -> Tensor:
    height, width, _ = rest[-3:]
    grid = context.new_empty(origin.shape[0], height, width, context.shape[1])
    return grid.permute(0, 3, 1, 2)


def _fake_backward(grad: Tensor, depth: Tensor, context: Tensor, *rest: object) -> tuple[Tensor, Tensor]:
    return torch.empty_like(depth), torch.empty_like(context)


def _save(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: Tensor) -> None:
    *tensors, _, _, ctx.truncate = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple:
    grads = torch.ops.focaldistiller.lift_splat_backward(grad, *ctx.saved_tensors, ctx.truncate)
    return *grads, *[None] * 6


library.register('lift_splat', _fake, _fake_backward, _save, _backward)

"""Multi-scale deformable attention (Deformable DETR, ICLR 2021, equation 3): the function that callers use.

The compiled operators serve where the device has them, plain torch (``ms_deform_attn_torch``) elsewhere.
"""

import torch
from torch import Tensor

from projects.mmdet3d_plugin.ops import library
from projects.mmdet3d_plugin.ops.ms_deform_attn_torch import (
    Shapes,
    ms_deform_attn_fused_torch,
    ms_deform_attn_packed_torch,
    ms_deform_attn_torch,
)


def ms_deform_attn(
    value: Tensor, spatial_shapes: Shapes, sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """Sample the value maps at given locations and sum them by attention weight.

    Arithmetic is float32 (float64 for float64 values) whatever the storage; points that miss their map, among
    them those with NaN coordinates, add nothing.

    Args:
        value: (B, S, M, D), the L maps flattened row by row and concatenated, ``S = sum(h * w)``.
        spatial_shapes: L pairs ``(h, w)`` of Python ints.
        sampling_locations: (B, Q, M, L, P, 2), (x, y) in units of map width and height.
        attention_weights: (B, Q, M, L, P).

    Returns:
        (B, Q, M * D), in the dtype of ``value``.

    Example:
        >>> value = torch.arange(4.0).view(1, 4, 1, 1)  # one map of 2 x 2 cells
        >>> centre = torch.full((1, 1, 1, 1, 1, 2), 0.5)  # one query, one head, one level, one point
        >>> ms_deform_attn(value, [(2, 2)], centre, torch.ones(1, 1, 1, 1, 1))
        tensor([[[1.5000]]])
    """
    _check_value(value, spatial_shapes)
    _check_points('sampling_locations', sampling_locations, value, spatial_shapes)
    _check_shape('attention_weights', attention_weights, sampling_locations.shape[:-1], value)
    _check_batch('sampling_locations', sampling_locations, len(value))
    if not library.serves(value):
        return ms_deform_attn_torch(value, spatial_shapes, sampling_locations, attention_weights)
    op = torch.ops.focaldistiller.ms_deform_attn
    return op(value, _flat(spatial_shapes), sampling_locations, attention_weights)


def ms_deform_attn_fused(
    value: Tensor,
    spatial_shapes: Shapes,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
    reference_points: Tensor,
) -> Tensor:
    """Deformable attention from the raw outputs of the two query projections.

    Args:
        value: (B, S, M, D).
        spatial_shapes: L pairs ``(h, w)`` of Python ints.
        sampling_offsets: (B, Q, M, L, P, 2), in cells of each level.
        attention_logits: (B, Q, M, L * P), before the softmax over L * P.
        reference_points: (B, Q, R, 2), (x, y) in [0, 1]; point ``p`` starts from reference ``p % R``.

    Returns:
        (B, Q, M * D), in the dtype of ``value``.

    Example:
        >>> value = torch.arange(4.0).view(1, 4, 1, 1)
        >>> offsets, logits = torch.zeros(1, 1, 1, 1, 1, 2), torch.zeros(1, 1, 1, 1)
        >>> ms_deform_attn_fused(value, [(2, 2)], offsets, logits, torch.full((1, 1, 1, 2), 0.5))
        tensor([[[1.5000]]])
    """
    _check_value(value, spatial_shapes)
    _check_points('sampling_offsets', sampling_offsets, value, spatial_shapes)
    _check_batch('sampling_offsets', sampling_offsets, len(value))
    _check_logits(attention_logits, sampling_offsets)
    b, q = sampling_offsets.shape[:2]
    _check_shape('reference_points', reference_points, (b, q, -1, 2), value)
    if not library.serves(value):
        return ms_deform_attn_fused_torch(
            value, spatial_shapes, sampling_offsets, attention_logits, reference_points
        )
    op = torch.ops.focaldistiller.ms_deform_attn_fused
    return op(value, _flat(spatial_shapes), sampling_offsets, attention_logits, reference_points)


def ms_deform_attn_packed(
    value: Tensor,
    spatial_shapes: Shapes,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
    reference_points: Tensor,
    pair_value: Tensor,
    pair_query: Tensor,
) -> Tensor:
    """Deformable attention of queries to the maps (cameras) that see them, summed over these maps.

    Offsets and logits belong to the query and are shared by its maps; the reference points belong to the pair.

    Args:
        value: (N, S, M, D), N maps, for example ``B * num_cams``.
        spatial_shapes: L pairs ``(h, w)`` of Python ints.
        sampling_offsets: (B, Q, M, L, P, 2), in cells of each level.
        attention_logits: (B, Q, M, L * P), before the softmax over L * P.
        reference_points: (K, R, 2), (x, y) in [0, 1] of every pair; point ``p`` starts from reference ``p % R``.
        pair_value: (K,) int64, the pair's map in ``[0, N)``, sorted.
        pair_query: (K,) int64, the pair's query in ``[0, B * Q)``.

    Returns:
        (B, Q, M * D), in the dtype of ``value``; zero where no pair names the query.
    """
    _check_value(value, spatial_shapes)
    _check_points('sampling_offsets', sampling_offsets, value, spatial_shapes)
    _check_logits(attention_logits, sampling_offsets)
    _check_shape('reference_points', reference_points, (pair_value.shape[0], -1, 2), value)
    for name, index in (('pair_value', pair_value), ('pair_query', pair_query)):
        if index.dim() != 1 or index.dtype != torch.int64:
            raise ValueError(f'{name} must be (K,) int64, got {tuple(index.shape)} {index.dtype}.')
        _check_shape(name, index, pair_value.shape, value)
    inputs = (sampling_offsets, attention_logits, reference_points, pair_value, pair_query)
    if not library.serves(value):
        return ms_deform_attn_packed_torch(value, spatial_shapes, *inputs)
    return torch.ops.focaldistiller.ms_deform_attn_packed(value, _flat(spatial_shapes), *inputs)


def _fake_forward(value: Tensor, shapes: list[int], points: Tensor, weights: Tensor, *rest: Tensor) -> Tensor:
    return value.new_empty(points.shape[0], points.shape[1], value.shape[2] * value.shape[3])


def _fake_backward(
    grad: Tensor, value: Tensor, shapes: list[int], points: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return value.new_empty(value.shape), points.new_empty(points.shape), weights.new_empty(weights.shape)


def _fake_anchored_backward(
    grad: Tensor,
    value: Tensor,
    shapes: list[int],
    points: Tensor,
    weights: Tensor,
    anchors: Tensor,
    *rest: object,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    with_reference = rest[-1]
    grad_anchors = anchors.new_empty(anchors.shape if with_reference else (0,))
    return *_fake_backward(grad, value, shapes, points, weights), grad_anchors


def _save_inputs(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: Tensor) -> None:
    value, ctx.shapes, *sampling = inputs
    ctx.save_for_backward(value, *sampling)


def _backward_of(name: str, anchored: bool) -> object:
    """The autograd formula of one operator, which is an operator itself."""

    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple:
        op = getattr(torch.ops.focaldistiller, f'{name}_backward')
        value, *sampling = ctx.saved_tensors
        if not anchored:
            grad_value, *grads = op(grad, value, ctx.shapes, *sampling)
            return grad_value, None, *grads
        wanted = ctx.needs_input_grad[4]
        grad_value, grad_points, grad_weights, grad_anchors = op(grad, value, ctx.shapes, *sampling, wanted)
        pairs = [None] * (len(sampling) - 3)
        return grad_value, None, grad_points, grad_weights, grad_anchors if wanted else None, *pairs

    return backward


def _flat(spatial_shapes: Shapes) -> list[int]:
    return [side for shape in spatial_shapes for side in shape]


def _check_value(value: Tensor, spatial_shapes: Shapes) -> None:
    if value.dim() != 4 or not value.is_floating_point():
        raise ValueError(
            f'value must be (B, S, M, D) floating point, got {tuple(value.shape)} {value.dtype}.'
        )
    if isinstance(spatial_shapes, Tensor):
        raise ValueError(
            'spatial_shapes must be pairs (h, w) of Python ints, got a tensor: call .tolist() once.'
        )
    cells = sum(h * w for h, w in spatial_shapes)
    if cells != value.shape[1]:
        raise ValueError(
            f'spatial_shapes {list(spatial_shapes)} hold {cells} cells, but value has {value.shape[1]}.'
        )


def _check_points(name: str, points: Tensor, value: Tensor, spatial_shapes: Shapes) -> None:
    if points.dim() != 6:
        raise ValueError(f'{name} must be (B, Q, M, L, P, 2), got {tuple(points.shape)}.')
    _check_shape(name, points, (-1, -1, value.shape[2], len(spatial_shapes), -1, 2), value)


def _check_logits(logits: Tensor, offsets: Tensor) -> None:
    b, q, m, levels, p, _ = offsets.shape
    _check_shape('attention_logits', logits, (b, q, m, levels * p), offsets)


def _check_batch(name: str, points: Tensor, batch: int) -> None:
    if len(points) != batch:
        raise ValueError(f'{name} has batch {len(points)}, but value has {batch}.')


def _check_shape(name: str, tensor: Tensor, shape: tuple[int, ...], like: Tensor) -> None:
    """Compare with the shape wanted, where -1 stands for any size, and with the device of another input."""
    fits = tensor.dim() == len(shape)
    if not fits or any(want != -1 and want != have for have, want in zip(tensor.shape, shape, strict=True)):
        wanted = ', '.join('any' if w == -1 else str(w) for w in shape)
        raise ValueError(f'{name} must be of shape ({wanted}), got {tuple(tensor.shape)}.')
    if tensor.device != like.device:
        raise ValueError(f'{name} is on {tensor.device}, but value is on {like.device}.')


for _name, _anchored in (
    ('ms_deform_attn', False),
    ('ms_deform_attn_fused', True),
    ('ms_deform_attn_packed', True),
):
    library.register(
        _name,
        _fake_forward,
        _fake_anchored_backward if _anchored else _fake_backward,
        _save_inputs,
        _backward_of(_name, _anchored),
    )

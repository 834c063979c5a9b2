"""mmcv's deformable attention in the place of ours, which is what the original BEVFormer runs."""

import contextlib
import functools
from collections.abc import Iterator

import torch
from mmcv.ops import multi_scale_deform_attn
from torch import Tensor

from projects.mmdet3d_plugin.ops import library, ms_deform_attn_torch
from projects.mmdet3d_plugin.ops.ms_deform_attn_torch import Shapes

_IMAGES_AT_ONCE = 64


def mmcv_serves(device: str) -> bool:
    """Whether mmcv has an operator on this device: on CUDA where it was compiled for it, on CPU in plain torch."""
    return device == 'cpu' or hasattr(multi_scale_deform_attn.ext_module, 'ms_deform_attn_forward')


def mmcv_attention(
    value: Tensor, spatial_shapes: Shapes, sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """See ``ops.ms_deform_attn``, (B, S, M, D) -> (B, Q, M * D); in float32, the only type that BEVFormer gives it."""
    shapes, start = _levels(tuple(map(tuple, spatial_shapes)), value.device)
    inputs = [x.float() for x in (sampling_locations, attention_weights)]
    if not value.is_cuda:
        return multi_scale_deform_attn.multi_scale_deformable_attn_pytorch(value.float(), shapes, *inputs)
    function = multi_scale_deform_attn.MultiScaleDeformableAttnFunction
    return function.apply(value.float(), shapes, start, *inputs, _IMAGES_AT_ONCE)


@functools.cache
def _levels(spatial_shapes: tuple[tuple[int, int], ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """(L, 2) and (L,): sizes of the levels, and where they begin; hosts make them once for all layers."""
    shapes = torch.tensor(spatial_shapes, device=device)
    area = shapes.prod(1)
    return shapes, area.cumsum(0) - area


@contextlib.contextmanager
def mmcvs_attention() -> Iterator[None]:
    """Within this context hosts attend as the original does: softmax and locations in torch, padded rows, mmcv's operator."""
    own = ms_deform_attn_torch.ms_deform_attn_torch
    ms_deform_attn_torch.ms_deform_attn_torch = mmcv_attention
    try:
        with library.pure_torch():
            yield
    finally:
        ms_deform_attn_torch.ms_deform_attn_torch = own

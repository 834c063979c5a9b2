"""The deformable attention calls of BEVFormer base, small and tiny, with the visibility of a nuScenes-like rig."""

from dataclasses import dataclass

import torch
from torch import Tensor

from projects.mmdet3d_plugin.hosts.bevformer.bev_geometry import (
    VisiblePairs,
    pillar_points,
    plane_points,
    visible_pairs,
)
from projects.mmdet3d_plugin.ops.ms_deform_attn_torch import sampling_locations
from tools.benchmark.rig import lidar_to_image

PC_RANGE = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
HEADS, CHANNELS, PILLAR_ANCHORS = 8, 32, 4


@dataclass(frozen=True)
class Model:
    """What shapes a model's calls: BEV side, padded image (h, w), image scale, feature levels (h, w)."""

    bev: int
    image: tuple[int, int]
    scale: float
    levels: tuple[tuple[int, int], ...]


MODELS = {
    'base': Model(200, (928, 1600), 1.0, ((116, 200), (58, 100), (29, 50), (15, 25))),
    'focal-small': Model(100, (464, 800), 0.5, ((58, 100), (29, 50), (15, 25), (8, 13))),
    'small': Model(150, (736, 1280), 0.8, ((23, 40),)),
    'tiny': Model(50, (480, 800), 0.5, ((15, 25),)),
}
CALLS = ('TSA', 'SCA', 'decoder')


@dataclass
class Inputs:
    """Inputs of all doors for one call; ``pairs`` is there for SCA only.

    Attributes:
        shapes: L pairs (h, w).
        value: (B, S, M, D).
        offsets: (B, Q, M, L, P, 2), the rows of the call, padded in SCA.
        logits: (B, Q, M, L * P).
        references: (B, Q, R, 2).
        locations: (B, Q, M, L, P, 2).
        weights: (B, Q, M, L, P).
        packed: offsets, logits, references, pair_value and pair_query of the packed door, or None.
    """

    shapes: list[tuple[int, int]]
    value: Tensor
    offsets: Tensor
    logits: Tensor
    references: Tensor
    locations: Tensor
    weights: Tensor
    packed: tuple[Tensor, ...] | None


def make_inputs(model: str, call: str, device: str = 'cpu', seed: int = 0) -> Inputs:
    """Random values and offsets around the initial pattern of Deformable DETR, standard deviation one cell."""
    torch.manual_seed(seed)
    spec = MODELS[model]
    if call == 'SCA':
        inputs = _camera_inputs(spec)
    elif call == 'TSA':
        references = plane_points(spec.bev, spec.bev, torch.device('cpu')).expand(2, -1, -1)[:, :, None]
        inputs = _finish([(spec.bev, spec.bev)], references.contiguous(), 4, None)
    else:
        inputs = _finish([(spec.bev, spec.bev)], torch.rand(1, 900, 1, 2), 4, None)
    return _to(inputs, device)


def _camera_inputs(spec: Model) -> Inputs:
    points = pillar_points(spec.bev, spec.bev, PILLAR_ANCHORS, PC_RANGE, torch.device('cpu'))
    size = torch.tensor([spec.image[1], spec.image[0]], dtype=torch.float32).expand(1, 6, 2)
    pairs = visible_pairs(points, lidar_to_image(spec.scale)[None], size)
    count = torch.bincount(pairs.value_index, minlength=6)
    row = torch.arange(len(pairs.value_index)) - (count.cumsum(0) - count)[pairs.value_index]
    references = torch.zeros(6, int(count.max()), PILLAR_ANCHORS, 2)
    references[pairs.value_index, row] = pairs.points
    return _finish(list(spec.levels), references, 8, (spec.bev**2, pairs))


def _finish(
    shapes: list[tuple[int, int]], references: Tensor, points: int, pairs: tuple[int, VisiblePairs] | None
) -> Inputs:
    batch, queries = references.shape[:2]
    value = torch.randn(batch, sum(h * w for h, w in shapes), HEADS, CHANNELS)
    offsets = _offsets(batch, queries, len(shapes), points)
    logits = torch.randn(batch, queries, HEADS, len(shapes) * points)
    packed = None
    if pairs is not None:
        per_query = (
            _offsets(1, pairs[0], len(shapes), points),
            torch.randn(1, pairs[0], HEADS, len(shapes) * points),
        )
        packed = (*per_query, pairs[1].points, pairs[1].value_index, pairs[1].query_index)
    locations = sampling_locations(shapes, offsets, references)
    weights = logits.softmax(-1).view(locations.shape[:-1])
    return Inputs(shapes, value, offsets, logits, references, locations, weights, packed)


def _offsets(batch: int, queries: int, levels: int, points: int) -> Tensor:
    theta = torch.arange(HEADS) * (2 * torch.pi / HEADS)
    direction = torch.stack([theta.cos(), theta.sin()], -1)
    direction = direction / direction.abs().amax(-1, keepdim=True)
    bias = direction[:, None, None] * torch.arange(1, points + 1)[:, None]
    return bias + torch.randn(batch, queries, HEADS, levels, points, 2)


def _to(inputs: Inputs, device: str) -> Inputs:
    moved = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in vars(inputs).items()}
    if inputs.packed is not None:
        moved['packed'] = tuple(t.to(device) for t in inputs.packed)
    return Inputs(**moved)

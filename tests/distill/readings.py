"""Made-up readings of a distillation head."""

import torch

from projects.mmdet3d_plugin.distill.step import QueryReading, Sampling


def reading(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    points: int = 2,
    heads: int = 1,
    layers: int = 1,
    seed: int = 0,
    channels: int = 5,
    maps: int = 1,
) -> QueryReading:
    """A reading whose layers all found the same.

    Args:
        boxes: (B, Q, 7).
        scores: (B, Q, num_classes).
        points: P.
        heads: M.
        layers: L.
        seed: of locations, weights and projections.
        channels: C of the feature that is read; every head reads 3 values.
        maps: N, of each sample.
    """
    b, q = scores.shape[:2]
    generator = torch.Generator().manual_seed(seed)
    shape = (layers, b, q, heads, maps, points)
    sampling = Sampling(
        locations=torch.rand(*shape, 2, generator=generator, dtype=scores.dtype),
        weights=torch.rand(*shape, generator=generator, dtype=scores.dtype).softmax(-1),
        projections=torch.randn(layers, 3 * heads, channels, generator=generator, dtype=scores.dtype),
    )
    return QueryReading(
        boxes=boxes.expand(layers, *boxes.shape),
        scores=scores.expand(layers, *scores.shape),
        samplings={'bev': sampling},
        match=lambda gt, labels: [(torch.arange(len(one)), torch.arange(len(one))) for one in labels],
    )

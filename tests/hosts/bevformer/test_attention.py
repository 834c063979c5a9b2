"""The three attentions against a naive float64 reading of the paper's equations."""

import numpy as np
import torch
from torch import Tensor

from projects.mmdet3d_plugin.hosts.bevformer.bev_geometry import pillar_points, visible_pairs
from projects.mmdet3d_plugin.hosts.bevformer.bevformer_encoder import (
    SpatialCrossAttention,
    TemporalSelfAttention,
)
from tests.factories import IMAGE_SIZE, PC_RANGE, ring_of_cameras

C, M = 16, 2


def bilinear(plane: Tensor, x: float, y: float) -> Tensor:
    """Value at (x, y) in [0, 1] of a (h, w, D) map; cell centres lie at (i + 0.5) / size; zero outside."""
    h, w, d = plane.shape
    px, py = x * w - 0.5, y * h - 0.5
    out = plane.new_zeros(d)
    for iy in (int(np.floor(py)), int(np.floor(py)) + 1):
        for ix in (int(np.floor(px)), int(np.floor(px)) + 1):
            if 0 <= ix < w and 0 <= iy < h:
                out += plane[iy, ix] * (1 - abs(px - ix)) * (1 - abs(py - iy))
    return out


def randomise(module: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module.double().eval()


def test_temporal_self_attention() -> None:
    h, w, p, b = 3, 4, 2, 2
    attention = randomise(TemporalSelfAttention(C, M, p))
    query, pos, prev, present = torch.randn(4, b, h * w, C, dtype=torch.float64)
    reference = torch.rand(b, 2, h * w, 2, dtype=torch.float64)
    out = attention(query, pos, torch.stack([prev, present], dim=1), reference, (h, w))
    i, q = 1, 7
    both = torch.cat([prev[i, q], query[i, q] + pos[i, q]])
    offsets = attention.sampling_offsets(both).view(M, 2, p, 2)
    weights = attention.attention_weights(both).view(M, 2, p).softmax(-1)
    total = torch.zeros(M, C // M, dtype=torch.float64)
    for frame, bev in enumerate([prev[i], present[i]]):
        value = attention.value_proj(bev).view(h, w, M, C // M)
        for m in range(M):
            for k in range(p):
                x, y = reference[i, frame, q] + offsets[m, frame, k] / torch.tensor([w, h])
                total[m] += weights[m, frame, k] * bilinear(value[:, :, m], x.item(), y.item()) / 2
    torch.testing.assert_close(out[i, q], query[i, q] + attention.output_proj(total.flatten()))


def test_spatial_cross_attention() -> None:
    h, w, depth, p, shapes = 4, 4, 2, 4, [(4, 6), (2, 3)]
    attention = randomise(SpatialCrossAttention(C, num_heads=M, num_levels=2, num_points=p))
    points = pillar_points(h, w, depth, PC_RANGE, torch.device('cpu')).double()
    lidar2img = torch.tensor(np.stack([ring_of_cameras(s) for s in (0, 1)]))
    size = torch.tensor([IMAGE_SIZE[1], IMAGE_SIZE[0]], dtype=torch.float64).expand(2, 6, 2)
    pairs = visible_pairs(points, lidar2img, size)
    query = torch.randn(2, h * w, C, dtype=torch.float64)
    value = torch.randn(12, 30, C, dtype=torch.float64)
    out = attention(query, value, shapes, pairs)
    deformable = attention.deformable_attention
    projected = deformable.value_proj(value).view(12, 30, M, C // M)
    for i in range(2):
        for q in range(h * w):
            offsets = deformable.sampling_offsets(query[i, q]).view(M, 2, p, 2)
            weights = deformable.attention_weights(query[i, q]).view(M, 2 * p).softmax(-1).view(M, 2, p)
            total, cameras = torch.zeros(M, C // M, dtype=torch.float64), 0
            for row in ((pairs.query_index == i * h * w + q).nonzero()[:, 0]).tolist():
                cameras += 1
                camera, start = projected[pairs.value_index[row]], 0
                for level, (lh, lw) in enumerate(shapes):
                    plane = camera[start : start + lh * lw].view(lh, lw, M, C // M)
                    start += lh * lw
                    for m in range(M):
                        for k in range(p):
                            xy = pairs.points[row, k % depth] + offsets[m, level, k] / torch.tensor([lw, lh])
                            total[m] += weights[m, level, k] * bilinear(plane[:, :, m], *xy.tolist())
            expected = query[i, q] + attention.output_proj(total.flatten() / max(cameras, 1))
            torch.testing.assert_close(out[i, q], expected)

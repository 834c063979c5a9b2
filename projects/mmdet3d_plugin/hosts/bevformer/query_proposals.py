"""Object queries that start where the BEV feature shows something, instead of where they learned to start."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from projects.mmdet3d_plugin.hosts.bevformer.dense_bev_head import DenseBEVHead
from projects.mmdet3d_plugin.ops.linear import Linear

BESIDE_A_PEAK = 3.0  # by how much a cell is less likely to hold an object where a neighbour is more likely to
OCTAVES = 4  # of sine and cosine for the place of a proposal
MARGIN = 1e-3  # that a reference point keeps from the border, where its logit would be infinite


@dataclass(frozen=True)
class Proposals:
    """What the first stage hands to the decoder; none but ``content`` and ``place`` carries a gradient.

    Attributes:
        reference: (B, Q, 3), (x, y, z) in [0, 1] of the point cloud range.
        logits: (B, Q, num_classes), to which the classification branches add.
        codes: (B, Q, 10), to which the regression branches add: sizes, heading and velocity; zero for the centre.
        content: (B, Q, C), added to the queries.
        place: (B, Q, C), added to their positions.
        maps: heatmap logits (B, num_classes, H, W) and box codes (B, 10, H, W), for the loss of the first stage.
    """

    reference: Tensor
    logits: Tensor
    codes: Tensor
    content: Tensor
    place: Tensor
    maps: tuple[Tensor, Tensor]


class QueryProposals(nn.Module):
    """The two stages of BEVFormer v2 (section 3.4) on BEV: a dense head proposes, the decoder refines.

    Queries that learn where to start must first find their objects, which takes longer than a short schedule has. Here
    the most likely cells of a dense heatmap become reference points, and their boxes what the decoder starts from.

    Args:
        embed_dims: C.
        num_classes: classes.
        bev_shape: (H, W).
        pc_range: [x0, y0, z0, x1, y1, z1], metres, LiDAR frame.
        velocity_scale: m/s that one unit of a branch stands for.
        options: further arguments of :class:`DenseBEVHead`.
    """

    def __init__(
        self,
        embed_dims: int,
        num_classes: int,
        bev_shape: tuple[int, int],
        pc_range: list[float],
        velocity_scale: float,
        **options: Any,
    ) -> None:
        super().__init__()
        self.dense = DenseBEVHead(
            embed_dims, num_classes, bev_shape, pc_range, velocity_scale=velocity_scale, **options
        )
        self.content = Linear(embed_dims, embed_dims)
        self.place = Linear(4 * OCTAVES, embed_dims)

    def forward(self, bev: Tensor, count: int) -> Proposals:
        """The ``count`` most likely cells of a BEV feature (B, H * W, C)."""
        maps = self.dense(bev)
        logits, codes = (maps_.detach() for maps_ in maps)
        thinned = (logits - BESIDE_A_PEAK * (logits < F.max_pool2d(logits, 3, 1, 1))).flatten(2)
        cells = thinned.amax(1).topk(count, dim=1).indices  # (B, Q)
        codes = _at(codes.flatten(2).transpose(1, 2), cells)
        reference = self._reference(cells, codes)
        # x, y and z, which the reference holds; a mask of constants is what torch.compile cannot write for AVX2
        held = torch.zeros_like(codes[..., :1])
        return Proposals(
            reference=reference,
            logits=_at(thinned.transpose(1, 2), cells),
            codes=torch.cat([held, held, codes[..., 2:4], held, codes[..., 5:]], -1),
            content=self.content(_at(bev, cells)),
            place=self.place(_waves(reference[..., :2]).to(bev.dtype)),
            maps=maps,
        )

    def _reference(self, cells: Tensor, codes: Tensor) -> Tensor:
        """Centres in [0, 1] of the range (B, Q, 3), from cells (B, Q) and codes (B, Q, 10) relative to them."""
        h, w = self.dense.bev_shape
        low, high = self.dense.pc_range[2], self.dense.pc_range[5]
        x = (cells % w + 0.5 + codes[..., 0]) / w
        y = (cells.div(w, rounding_mode='floor') + 0.5 + codes[..., 1]) / h
        z = (codes[..., 4] - low) / (high - low)
        return torch.stack([x, y, z], -1).clamp(MARGIN, 1 - MARGIN)


def _at(values: Tensor, cells: Tensor) -> Tensor:
    """Rows (B, Q, C) of values (B, H * W, C) at cells (B, Q)."""
    return values.gather(1, cells[..., None].expand(-1, -1, values.shape[2]))


def _waves(place: Tensor) -> Tensor:
    """(..., 2) in [0, 1] to sines and cosines (..., 4 * OCTAVES)."""
    octaves = torch.pi * 2.0 ** torch.arange(OCTAVES, device=place.device)
    angles = (place[..., None] * octaves).flatten(-2)
    return torch.cat([angles.sin(), angles.cos()], -1)

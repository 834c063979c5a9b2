"""Features of a box from the maps seen from above."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from projects.mmdet3d_plugin.hosts.two_stage.box_residuals import out_of_frame
from projects.mmdet3d_plugin.hosts.two_stage.proposals import Proposals
from projects.mmdet3d_plugin.hosts.two_stage.roi_features import ROI_FEATURES, RoIFeatures, map_of


@ROI_FEATURES.register_module()
class BEVGridFeatures(RoIFeatures):
    """A grid that lies on the box and turns with it, sampled bilinearly from BEV maps.

    Args:
        maps: name -> channels of the maps that are read.
        pc_range: what the maps cover, x0, y0, z0, x1, y1, z1 in metres.
        channels: of each point of the grid, after one linear layer for all maps.
        grid: points of the grid along the box's length, and across.
        scale: size of the grid over the size of the box, so that it also sees what is around.
    """

    def __init__(
        self,
        maps: Mapping[str, int],
        pc_range: Sequence[float],
        channels: int = 32,
        grid: int = 6,
        scale: float = 1.2,
    ) -> None:
        super().__init__()
        self.reads, self.pc_range, self.grid, self.scale = tuple(maps), list(pc_range), grid, scale
        self.reduce = nn.Linear(sum(maps.values()), channels)
        self.width = channels * grid**2

    def forward(self, proposals: Proposals, maps: Mapping[str, Any], points: Sequence[Tensor]) -> Tensor:
        """See the base class: (N, width)."""
        places = self.places(proposals.boxes)
        seen = [self._sampled(map_of(maps, name), places, proposals.batch_index) for name in self.reads]
        return F.relu(self.reduce(torch.cat(seen, 2))).flatten(1)

    def places(self, boxes: Tensor) -> Tensor:
        """Points of the grids on boxes (N, 7): (N, grid * grid, 2), x and y in metres, rows along the length."""
        ticks = ((torch.arange(self.grid).to(boxes) + 0.5) / self.grid - 0.5) * self.scale
        unit = torch.stack(torch.meshgrid(ticks, ticks, indexing='ij'), 2).view(1, -1, 2)
        offsets = F.pad(unit * boxes[:, None, 3:5], (0, 1))
        turned = out_of_frame(offsets, boxes[:, None, 6].expand(-1, self.grid**2))
        return boxes[:, None, :2] + turned[..., :2]

    def _sampled(self, map_: Tensor, places: Tensor, sample: Tensor) -> Tensor:
        """A map (B, C, H, W) at places (N, G, 2): (N, G, C); 0 beyond its range."""
        low, high = (places.new_tensor(self.pc_range[i : i + 2]) for i in (0, 3))
        at = ((places - low) / (high - low) * 2 - 1).to(map_)
        found = map_.new_zeros(*places.shape[:2], map_.shape[1])
        for index, one in enumerate(map_):
            mine = (sample == index).nonzero().squeeze(1)
            values = F.grid_sample(one[None], at[mine][None], align_corners=False)[0]
            found = found.index_copy(0, mine, values.permute(1, 2, 0))
        return found

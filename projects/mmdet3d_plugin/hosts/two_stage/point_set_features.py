"""Features of a box from the raw points within it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from projects.mmdet3d_plugin.hosts.row_layers import row_layers
from projects.mmdet3d_plugin.hosts.two_stage.points_in_boxes import frame_coordinates, points_in_proposals
from projects.mmdet3d_plugin.hosts.two_stage.proposals import Proposals
from projects.mmdet3d_plugin.hosts.two_stage.roi_features import ROI_FEATURES, RoIFeatures

_PLACE = 9  # coordinates in the box's frame, and distances to its six faces


@ROI_FEATURES.register_module()
class PointSetFeatures(RoIFeatures):
    """A PointNet on the raw points of a box (Li et al., LiDAR R-CNN, CVPR 2021).

    A map's cells may be larger than a pedestrian; the points tell what they hide. Each point is known by its place in
    the box's frame and by its distances to the box's faces, since coordinates alone do not tell the box's size.

    Args:
        extras: numbers of a point after x, y and z: 1 with intensities.
        channels: widths of the PointNet's layers.
        most: points kept of one box.
        scale: size of the box in which points count, over the proposal's.
        margin: metres added to that.
        norm: between layers, see :func:`~projects.mmdet3d_plugin.hosts.row_layers.norm_of`.
    """

    def __init__(
        self,
        extras: int = 1,
        channels: Sequence[int] = (32, 64, 128),
        most: int = 64,
        scale: float = 1.1,
        margin: float = 0.3,
        norm: str = 'layer',
    ) -> None:
        super().__init__()
        self.extras, self.most, self.scale, self.margin = extras, most, scale, margin
        self.layers = row_layers([_PLACE + extras, *channels], norm)
        self.width = channels[-1] + 1

    def forward(self, proposals: Proposals, maps: Mapping[str, Any], points: Sequence[Tensor]) -> Tensor:
        """See the base class: (N, width); the maxima over the points, 0 without points, and how many there are."""
        pairs = points_in_proposals(proposals, list(points), self.scale, self.margin, self.most)
        place = frame_coordinates(proposals.boxes, pairs)
        half = proposals.boxes[pairs.box, 3:6] / 2
        known = torch.cat([place, half - place, half + place, pairs.points[:, 3 : 3 + self.extras]], 1)
        rows = self.layers(known)
        empty = rows.new_zeros(len(proposals), rows.shape[1])
        best = empty.scatter_reduce(0, pairs.box[:, None].expand_as(rows), rows, 'amax')
        count = torch.bincount(pairs.box, minlength=len(proposals)).to(rows)
        return torch.cat([best, (count[:, None] + 1).log()], 1)

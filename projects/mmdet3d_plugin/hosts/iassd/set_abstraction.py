"""Features of places from the points around them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.hosts.iassd.point_set import PointSet
from projects.mmdet3d_plugin.hosts.row_layers import RowBatchNorm, row_layers
from projects.mmdet3d_plugin.ops.ball_query import ball_query


class SetAbstraction(nn.Module):
    """Set abstraction with several radii (Qi et al., PointNet++, NeurIPS 2017, "multi-scale grouping").

    Around each centre and for each radius: the features of the points there, each with its place relative to the centre,
    through an MLP of their own, and the maximum over the points; then all radii through one layer. Norms count every pair
    of centre and point once. Published code fills up neighbourhoods that have fewer points with copies of the first, which
    changes no maximum but what batch norms average over, and takes several times as long on sparse clouds.

    Args:
        in_channels: C of the points.
        radii: metres.
        neighbours: points around a centre at the most, per radius.
        widths: of the layers, per radius.
        out_channels: of the result.
    """

    def __init__(
        self,
        in_channels: int,
        radii: Sequence[float],
        neighbours: Sequence[int],
        widths: Sequence[Sequence[int]],
        out_channels: int,
    ) -> None:
        super().__init__()
        self.radii, self.neighbours, self.out_channels = tuple(radii), tuple(neighbours), out_channels
        self.scales = nn.ModuleList(row_layers([3 + in_channels, *width], RowBatchNorm) for width in widths)
        self.merge = row_layers([sum(width[-1] for width in widths), out_channels], RowBatchNorm)

    def forward(self, points: PointSet, centers: Tensor, counts: Sequence[int]) -> Tensor:
        """Features of places.

        Args:
            points: N points of B clouds.
            centers: (M, 3), metres, cloud by cloud.
            counts: centres of each cloud.

        Returns:
            (M, out_channels), >= 0.
        """
        scales = zip(self.radii, self.neighbours, self.scales, strict=True)
        return self.merge(torch.cat([self._around(points, centers, counts, *scale) for scale in scales], 1))

    def _around(
        self,
        points: PointSet,
        centers: Tensor,
        counts: Sequence[int],
        radius: float,
        most: int,
        layers: nn.Module,
    ) -> Tensor:
        """One radius: (M, C), zero where there is no point."""
        found = ball_query(centers.detach(), points.places, counts, points.counts, radius, most)
        center, slot = (found >= 0).nonzero(as_tuple=True)
        point = found[center, slot]
        rows = layers(torch.cat([points.places[point] - centers[center], points.features[point]], 1))
        empty = rows.new_zeros(len(centers), rows.shape[1])  # no more than what a ReLU gives
        return empty.scatter_reduce(0, center[:, None].expand_as(rows), rows, 'amax')

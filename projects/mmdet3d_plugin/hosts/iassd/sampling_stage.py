"""One stage of the encoder: fewer points, with features of what lies around them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.hosts.iassd.point_set import PointSet, fewer
from projects.mmdet3d_plugin.hosts.iassd.set_abstraction import SetAbstraction
from projects.mmdet3d_plugin.hosts.row_layers import RowBatchNorm, row_layers
from projects.mmdet3d_plugin.ops.furthest_points import furthest_points

FURTHEST, CLASS_AWARE, CENTROID_AWARE = 'furthest', 'class_aware', 'centroid_aware'
SAMPLING = (FURTHEST, CLASS_AWARE, CENTROID_AWARE)


class SamplingStage(nn.Module):
    """Choose points, look around them, and say for the next stage which class each belongs to.

    Args:
        in_channels: C of the points before.
        num_classes: of objects.
        number: points kept of each cloud.
        sample: 'furthest'; or 'class_aware' or 'centroid_aware' ("instance-aware downsampling"): those that the stage
            before gives the highest scores of any class. The two differ in what scores are trained to be.
        radii, neighbours, widths, out_channels: of the :class:`SetAbstraction`; without radii, points keep their features.
        confidence: width of the layer before the class scores; 0 where the next stage needs none.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        number: int,
        sample: str = FURTHEST,
        radii: Sequence[float] = (),
        neighbours: Sequence[int] = (),
        widths: Sequence[Sequence[int]] = (),
        out_channels: int | None = None,
        confidence: int = 0,
    ) -> None:
        super().__init__()
        if sample not in SAMPLING:
            raise UserError(f'a stage of IA-SSD has sample={sample!r}; choose one of {", ".join(SAMPLING)}')
        if radii and out_channels is None:
            raise UserError('a stage of IA-SSD that has radii needs out_channels')
        self.number, self.sample = number, sample
        self.out_channels = out_channels if radii else in_channels
        self.abstraction = (
            SetAbstraction(in_channels, radii, neighbours, widths, out_channels) if radii else None
        )
        self.confidence = (
            nn.Sequential(
                *row_layers([self.out_channels, confidence], RowBatchNorm), nn.Linear(confidence, num_classes)
            )
            if confidence
            else None
        )

    def forward(self, points: PointSet, logits: Tensor | None) -> tuple[PointSet, Tensor | None]:
        """N points of B clouds and their class logits (N, classes) -> M points, and their logits or None."""
        rows, counts = self.choose(points, logits), fewer(points.counts, self.number)
        places, features = points.places[rows], points.features[rows]
        if self.abstraction is not None:
            features = self.abstraction(points, places, counts)
        kept = PointSet(places, features, counts)
        return kept, None if self.confidence is None else self.confidence(features)

    @torch.no_grad()
    def choose(self, points: PointSet, logits: Tensor | None) -> Tensor:
        """Rows (M,) of the points that stay, cloud by cloud."""
        if self.sample == FURTHEST:
            return furthest_points(points.places, points.counts, self.number)
        best, start, rows = logits.amax(1), 0, []
        for count, kept in zip(points.counts, fewer(points.counts, self.number), strict=True):
            rows.append(start + best[start : start + count].topk(kept).indices)
            start += count
        return torch.cat(rows)

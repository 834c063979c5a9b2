"""What detectors with a second stage have in common."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mmdet3d.core import bbox3d2result
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.hosts.lidar.voxel_detectors import out_of_range
from projects.mmdet3d_plugin.hosts.two_stage.first_stage_maps import recorded_maps
from projects.mmdet3d_plugin.hosts.two_stage.proposals import Refined
from projects.mmdet3d_plugin.hosts.two_stage.roi_head import build_roi_head


class TwoStageOutputs(NamedTuple):
    """Raw outputs of the dense head for B clouds, and what the second stage made of its boxes."""

    heads: Any
    refined: Refined


class TwoStage(nn.Module):
    """A voxel detector whose boxes a second stage refines; the first stage's names and weights are as without one."""

    prefix: str

    def add_second_stage(self, roi_head: Mapping[str, Any]) -> None:
        """Build the second stage, for the classes of the first.

        Args:
            roi_head: config of a :class:`~projects.mmdet3d_plugin.hosts.two_stage.roi_head.RoIHead`.
        """
        self.roi_head = build_roi_head(roi_head, self.dense_head)

    @property
    def dense_head(self) -> nn.Module:
        """The first stage's head."""
        return getattr(self, f'{self.prefix}bbox_head')

    def first_stage(self, points: Sequence[Tensor]) -> tuple[Any, dict[str, Any]]:
        """B clouds (N_i, C) -> raw outputs of the dense head, and the maps that the second stage reads, by name."""
        with recorded_maps(self, self.roi_head.reads, self.prefix) as maps:
            outputs = self.dense_head(self.bev_features(points))
        return outputs, maps

    def two_stages(self, points: Sequence[Tensor]) -> TwoStageOutputs:
        """B clouds (N_i, C) -> outputs of both stages."""
        outputs, maps = self.first_stage(points)
        proposals = self.roi_head.propose(outputs, self.dense_head)
        return TwoStageOutputs(outputs, self.roi_head.refine(proposals, maps, points))

    def final_boxes(
        self, refined: Refined, points: Sequence[Tensor], img_metas: Sequence[Mapping[str, Any]]
    ) -> list[tuple[Any, Tensor, Tensor]]:
        """Per cloud n boxes, scores (n,) and labels (n,); none in a cloud without points in range."""
        found = self.roi_head.detect(refined, len(points))
        empty = out_of_range(getattr(self, f'{self.prefix}voxel_layer'), points)
        return [
            (
                meta['box_type_3d'](boxes[:0] if none else boxes, box_dim=boxes.shape[1]),
                *(part[:0] if none else part for part in rest),
            )
            for (boxes, *rest), none, meta in zip(found, empty, img_metas, strict=True)
        ]

    def forward_train(
        self,
        points: Sequence[Tensor],
        img_metas: Sequence[Mapping[str, Any]],
        gt_bboxes_3d: Sequence[Any],
        gt_labels_3d: Sequence[Tensor],
        gt_bboxes_ignore: Any = None,
    ) -> dict[str, Any]:
        """Losses of both stages.

        Args:
            points: B clouds (N_i, C), x, y, z first, metres, LiDAR frame.
            img_metas: B of them.
            gt_bboxes_3d: B times n_i LiDAR boxes.
            gt_labels_3d: B times (n_i,).
            gt_bboxes_ignore: B tensors (m_i, 7), boxes in which neither stage learns what is an object and what is not.
        """
        outputs, maps = self.first_stage(points)
        # before the loss of a centre head turns its logits into probabilities, in place
        proposals = self.roi_head.propose(outputs, self.dense_head)
        losses = self.dense_losses(outputs, img_metas, gt_bboxes_3d, gt_labels_3d, gt_bboxes_ignore)
        truth = [boxes.tensor for boxes in gt_bboxes_3d], gt_labels_3d, gt_bboxes_ignore
        return losses | self.roi_head.training_losses(proposals, maps, points, *truth)[1]

    def dense_losses(
        self,
        outputs: Any,
        img_metas: Sequence[Mapping[str, Any]],
        gt_bboxes_3d: Sequence[Any],
        gt_labels_3d: Sequence[Tensor],
        gt_bboxes_ignore: Sequence[Tensor] | None = None,
    ) -> dict[str, Any]:
        """Losses of the dense head's raw outputs; arguments as for :meth:`forward_train`."""
        raise NotImplementedError(f'{type(self).__name__}: implement dense_losses()')

    def final_results(
        self, points: Sequence[Tensor], img_metas: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """B clouds (N_i, C) -> per cloud ``boxes_3d``, ``scores_3d`` and ``labels_3d`` of the second stage."""
        found = self.final_boxes(self.two_stages(points).refined, points, img_metas)
        return [bbox3d2result(*one) for one in found]

    def aug_test(self, *args: Any, **kwargs: Any) -> None:
        """Several views of one cloud: not offered, since mmdet3d would merge boxes of the first stage only."""
        raise UserError(
            f'{type(self).__name__} looks at one view of each cloud: leave flips and scales out of the test pipeline'
        )

"""A second stage that is trained beside a one-stage detector and left behind."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.hosts.adapter import adapter_for
from projects.mmdet3d_plugin.distill.hosts.voxel_host import VoxelHostAdapter
from projects.mmdet3d_plugin.distill.registry import HEADS, DistillError
from projects.mmdet3d_plugin.distill.step import Step
from projects.mmdet3d_plugin.distill.taps import Tap, stop_gradient
from projects.mmdet3d_plugin.distill.training_head import TrainingHead
from projects.mmdet3d_plugin.hosts.two_stage.first_stage_maps import source_of
from projects.mmdet3d_plugin.hosts.two_stage.proposals import Refined
from projects.mmdet3d_plugin.hosts.two_stage.roi_head import build_roi_head


@HEADS.register_module()
class SecondStage(TrainingHead):
    """A second stage on the student's own boxes and maps, trained by its own losses on the ground truth.

    Terms read its output by ``on=dict(student='heads', teacher='second_stage')`` under a ``SelfTeacher``. The
    student's checkpoint is that of a plain one-stage detector.

    Args:
        student: a voxel detector with anchors or a centre head.
        roi_head: config of a :class:`~projects.mmdet3d_plugin.hosts.two_stage.roi_head.RoIHead`.
        teach_backbone: whether its losses also reach the student through the maps that it reads (co-training). False
            tells what distillation alone is worth.
        weight: factor of its losses.

    Raises:
        DistillError: the student is of another kind.
    """

    reading: ClassVar[str] = 'refined'

    def __init__(
        self,
        student: nn.Module,
        roi_head: Mapping[str, Any],
        teach_backbone: bool = True,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        adapter = adapter_for(student)
        if not isinstance(adapter, VoxelHostAdapter):
            raise DistillError(
                f"'distiller.head': a SecondStage looks at the maps of a voxel detector, not of a {type(student).__name__}"
            )
        dense = adapter.part(student, 'bbox_head')
        self.roi_head = build_roi_head(roi_head, dense)
        # A list hides the student's head from nn.Module, whose parameters must not become ours.
        self._dense, self.teach_backbone, self.weight = [dense], teach_backbone, weight
        (self._heads,) = adapter.taps(student, 'heads')
        sources = {name: source_of(name, adapter.prefix) for name in self.roi_head.reads}
        self._maps = {name: Tap(path, convert=convert) for name, (path, convert) in sources.items()}

    @property
    def student_taps(self) -> list[Tap]:
        """The dense head's outputs, and the maps that the second stage reads."""
        return [self._heads, *self._maps.values()]

    def forward(self, step: Step) -> tuple[Refined, dict[str, Tensor]]:
        """Refine the student's boxes of one step, among them shifted objects that have no row of the dense head.

        Args:
            step: with what :attr:`student_taps` recorded, ``points`` and the ground truth.

        Returns:
            Live boxes, and the losses ``loss_rcnn_*``.
        """
        outputs = self._heads.convert(step.student[self._heads.path])
        maps = {name: tap.convert(step.student[tap.path]) for name, tap in self._maps.items()}
        if not self.teach_backbone:
            maps = stop_gradient(maps)
        points = step.batch['points']
        truth = [boxes.tensor.to(points[0].device) for boxes in step.batch['gt_bboxes_3d']]
        proposals = self.roi_head.propose(outputs, self._dense[0])
        truth = truth, step.batch['gt_labels_3d'], step.batch.get('gt_bboxes_ignore')
        refined, losses = self.roi_head.training_losses(proposals, maps, points, *truth)
        return refined, {name: self.weight * loss for name, loss in losses.items()}

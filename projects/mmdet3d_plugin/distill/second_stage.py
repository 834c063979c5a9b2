"""A second stage that is trained beside a one-stage student, which it may teach, and that is gone at export."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.hosts.adapter import adapter_for
from projects.mmdet3d_plugin.distill.hosts.voxel_host import VoxelHostAdapter
from projects.mmdet3d_plugin.distill.registry import HEADS, DistillError
from projects.mmdet3d_plugin.distill.step import Step
from projects.mmdet3d_plugin.distill.taps import Tap, find_module, stop_gradient
from projects.mmdet3d_plugin.distill.training_head import TrainingHead
from projects.mmdet3d_plugin.hosts.two_stage.first_stage_maps import source_of
from projects.mmdet3d_plugin.hosts.two_stage.proposals import Refined
from projects.mmdet3d_plugin.hosts.two_stage.roi_head import build_roi_head


@HEADS.register_module()
class SecondStage(TrainingHead):
    """An RoI head on the boxes, maps and points of the student ("voxel self-distillation").

    What it makes of the student's boxes is what a ``SelfTeacher`` calls ``'second_stage'``. The student itself stays a
    plain detector of one stage: its checkpoint has the same names, and testing costs the same.

    Args:
        student: the detector that is trained, on voxels or pillars, with an anchor head or a centre head.
        roi_head: config of a :class:`~projects.mmdet3d_plugin.hosts.two_stage.roi_head.RoIHead`.
        teach_backbone: whether the head's own losses reach the student's maps. Without, the student learns from
            distillation only, never from co-training.
        weight: factor of those losses.

    Raises:
        DistillError: the student is of another kind, or lacks a map that the head reads.
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
                f'a SecondStage refines the boxes of a voxel detector, and the student is a {type(student).__name__}; '
                'leave it out'
            )
        # a list hides the student's head from nn.Module, where it would be saved twice
        self._dense_head = [adapter.part(student, 'bbox_head')]
        self._heads = adapter.aliases(student)['heads'][0]
        self.roi_head = build_roi_head(roi_head, self._dense_head[0])
        self._maps = {
            name: Tap(path, convert=convert)
            for name in self.roi_head.reads
            for path, convert in [source_of(name, adapter.prefix)]
        }
        for tap in self._maps.values():
            find_module(student, tap.path)
        self.teach_backbone, self.weight = teach_backbone, weight

    @property
    def student_taps(self) -> list[Tap]:
        """The student's dense head, and the maps that are read."""
        return [self._heads, *self._maps.values()]

    def forward(self, step: Step) -> tuple[Refined, dict[str, Tensor]]:
        """Refine the student's boxes of one step.

        Args:
            step: with what :attr:`student_taps` recorded, and ``points``, ``gt_bboxes_3d`` and ``gt_labels_3d``.

        Returns:
            The boxes that come from an anchor or a cell of the student, live, and the head's own losses.
        """
        outputs = self._heads.convert(step.student[self._heads.path])
        maps = {name: tap.convert(step.student[tap.path]) for name, tap in self._maps.items()}
        if not self.teach_backbone:
            maps = stop_gradient(maps)
        proposals = self.roi_head.propose(outputs, self._dense_head[0])
        truth = [boxes.tensor for boxes in step.batch['gt_bboxes_3d']], step.batch['gt_labels_3d']
        refined, losses = self.roi_head.training_losses(proposals, maps, step.batch['points'], *truth)
        named = {name.replace('loss_', 'loss_head_'): self.weight * loss for name, loss in losses.items()}
        return refined[refined.proposals.remembered], named

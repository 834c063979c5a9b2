"""Mining within the step: a running average of the student labels the weak view, and the student learns on a strong one."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from projects.mmdet3d_plugin.common.config_checks.numbers import check_between, check_factors
from projects.mmdet3d_plugin.datasets.transforms.remove_points import RemovePoints
from projects.mmdet3d_plugin.distill.hosts.adapter import Batch, Detections
from projects.mmdet3d_plugin.distill.hosts.voxel_host import VOXELS
from projects.mmdet3d_plugin.distill.registry import TARGETS
from projects.mmdet3d_plugin.distill.targets.teacher_labels import TeacherLabels, overlaps

_IGNORED = 'gt_bboxes_ignore'


@TARGETS.register_module()
class OnlineMining(TeacherLabels):
    """Complete sparse labels by a teacher's boxes, take the points of what it is unsure of away, and make a strong view.

    The teacher, usually an ``EMATeacher``, sees the batch as the pipeline made it, the weak view. Its confident boxes join
    the labels as in :class:`TeacherLabels`. Points in its other boxes, which touch neither, are removed above the ground.
    Then points and boxes of every sample, ignored ones too, are mirrored, turned and scaled together: what the student
    learns on. Nothing of it needs an instance bank. Under several processes each draws its own views.

    Terms and a head see the strong view too, so a detector may also teach itself (``SelfTeacher``); features that this
    teacher gave of the weak view lie elsewhere, and comparing them is refused.

    Args:
        score_thr: least score of a box that becomes a label, one for all classes or one per class.
        overlap: drop what overlaps more than this, seen from above, with something better.
        least_score: boxes below it are noise; from it on, up to ``score_thr``, they are unsure.
        rotate: largest angle of the strong view either way, radians.
        scale: its least and largest scale.
        flip: chance that y is mirrored.
    """

    moves_world: ClassVar[bool] = True

    def __init__(
        self,
        score_thr: float | Sequence[float] = 0.6,
        overlap: float = 0.1,
        least_score: float = 0.1,
        rotate: float = 0.39,
        scale: tuple[float, float] = (0.95, 1.05),
        flip: float = 0.5,
    ) -> None:
        super().__init__(score_thr, overlap)
        check_factors('OnlineMining: scale', scale)
        for name, value, most in (
            ('flip', flip, 1),
            ('least_score', least_score, 1),
            ('rotate', rotate, math.pi),
        ):
            check_between(f'OnlineMining: {name}', value, 0, most)
        self.least_score, self.rotate, self.scale, self.flip = least_score, rotate, tuple(scale), flip
        self.remove = RemovePoints()

    def __call__(self, batch: Batch, detections: Sequence[Detections]) -> Batch:
        """New targets and points.

        Args:
            batch: the student's, with ``points`` (list of B (N_i, C)), ``gt_bboxes_3d`` and ``gt_labels_3d``; perhaps with
                ``gt_bboxes_ignore`` (list of B (m_i, 7)).
            detections: the teacher's, of the same B samples.

        Returns:
            A batch of the strong view; the argument is not changed.
        """
        labelled = super().__call__(batch, detections)
        strong = {key: value for key, value in labelled.items() if key != VOXELS}  # those of the weak view
        kept = [
            self.without_unsure(cloud, boxes, found)
            for cloud, boxes, found in zip(batch['points'], labelled['gt_bboxes_3d'], detections, strict=True)
        ]
        boxes = [labelled['gt_bboxes_3d']]
        if labelled.get(_IGNORED) is not None:  # plain tensors, which lie in the world as boxes do
            pairs = zip(*boxes, labelled[_IGNORED], strict=True)
            boxes.append([type(own)(rows, box_dim=rows.shape[-1]) for own, rows in pairs])
        views = [self.strengthen(*sample) for sample in zip(kept, *boxes, strict=True)]
        strong['points'], strong['gt_bboxes_3d'], *ignored = map(list, zip(*views, strict=True))
        if ignored:
            strong[_IGNORED] = [own.tensor for own in ignored[0]]
        return strong

    def without_unsure(self, points: Tensor, boxes: Any, found: Detections) -> Tensor:
        """Points of one sample that are reliable.

        Args:
            points: (N, C), metres.
            boxes: all that is a label.
            found: m boxes of the teacher.

        Returns:
            (M, C), M <= N.
        """
        doubtful = torch.ones(len(found.scores), dtype=torch.bool, device=found.scores.device)
        doubtful[self.confident(found)] = False
        doubtful &= found.scores >= self.least_score
        unsure = found.boxes[doubtful].to(boxes.tensor.device)
        unsure = unsure[(overlaps(unsure, boxes) <= 0).all(1)]
        gone = self.remove.inside(points[:, :3].cpu().numpy(), unsure.tensor[:, :7].cpu().numpy())
        return points[torch.from_numpy(~gone).to(points.device)]

    def strengthen(self, points: Tensor, *sets: Any) -> tuple[Any, ...]:
        """The strong view of one sample: points (N, C) and sets of boxes, moved together by torch's chance."""
        flip, turn, size = torch.rand(3).tolist()
        points, sets = points.clone(), tuple(boxes.clone() for boxes in sets)
        angle, scale = (2 * turn - 1) * self.rotate, self.scale[0] + size * (self.scale[1] - self.scale[0])
        if flip < self.flip:
            points[:, 1] = -points[:, 1]
        points[:, :2] = points[:, :2] @ _turned(angle).to(points).T
        points[:, :3] *= scale
        for boxes in sets:
            if flip < self.flip:
                boxes.flip('horizontal')
            boxes.rotate(angle)
            boxes.scale(scale)
        return points, *sets


def _turned(angle: float) -> Tensor:
    """(2, 2) that turns counter-clockwise."""
    value = torch.tensor(angle, dtype=torch.float64)
    c, s = torch.cos(value), torch.sin(value)
    return torch.stack([torch.stack([c, -s]), torch.stack([s, c])])

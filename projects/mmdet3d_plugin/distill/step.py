"""What one training step lets the terms see."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from projects.mmdet3d_plugin.distill.registry import DistillError

Matches = Sequence[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class QueryReading:
    """The refined queries of FD3D's distillation head on the teacher's BEV feature; all constants.

    Args:
        boxes: (num_layers, B, Q, 7) gravity centres, sizes and yaw in metres and radians, LiDAR frame.
        scores: (num_layers, B, Q, num_classes) probabilities.
        locations: (num_layers, B, Q, num_heads, num_points, 2) sampled positions, (x, y) in units of the BEV map's
            width and height.
        weights: (num_layers, B, Q, num_heads, num_points) attention, summing to 1 over the points of a head.
        projections: (num_layers, V, C) matrices that turn the BEV feature into the values that a layer samples; head m
            reads the m-th slice of their V outputs.
        match: pairs queries of the last layer with ground truth, ``(gt_bboxes_3d, gt_labels_3d) -> B pairs of
            (query indices, ground-truth indices)``.
    """

    boxes: Tensor
    scores: Tensor
    locations: Tensor
    weights: Tensor
    projections: Tensor
    match: Callable[[Sequence, Sequence], Matches]

    @property
    def confidence(self) -> Tensor:
        """(num_layers, B, Q): the probability of the most probable class."""
        return self.scores.amax(-1)


@dataclass
class Step:
    """Everything a term, a region or a loss may look at. It lives for one training step.

    Args:
        batch: the student's batch of the current frame: ``img_metas``, ``gt_bboxes_3d``, ``gt_labels_3d``, ...
        student: what the taps of the student recorded, by module path.
        teacher: what the taps of the teacher recorded, by module path.
        predictions: the teacher's raw predictions, as its host returns them.
        epoch: epochs finished so far; 1.5 is the middle of the second.
        queries: what the distillation head read off the teacher's BEV feature, in recipes that have one.
        generated: student features (N, C, H, W) that terms generated anew, by the term's name, for later terms.
        cache: what several terms need alike, computed by the first of them.
        detect: finds the teacher's boxes, for :attr:`detections`.
    """

    batch: dict[str, Any]
    student: dict[str, Any]
    teacher: dict[str, Any]
    predictions: Any = None
    epoch: float = 0
    queries: QueryReading | None = None
    generated: dict[str, Tensor] = field(default_factory=dict)
    cache: dict[Hashable, Any] = field(default_factory=dict)
    detect: Callable[[], Sequence[Any]] | None = None

    @property
    def detections(self) -> Sequence[Any]:
        """The teacher's final boxes, one ``Detections`` per sample, found when they are first asked for."""
        if 'detections' not in self.cache:
            if self.detect is None:
                raise DistillError(
                    'the boxes of the teacher are asked for, but no teacher has run in this step'
                )
            self.cache['detections'] = self.detect()
        return self.cache['detections']

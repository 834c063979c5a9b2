"""What the queries of the distillation head found, in tensors that every term and region may use."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

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

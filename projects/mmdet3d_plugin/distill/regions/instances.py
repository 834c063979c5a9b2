"""Regions made of instances: ground truth, what the queries found, or both, and how far to trust them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.regions.region import Region, join_boxes, join_labels
from projects.mmdet3d_plugin.distill.regions.teacher_boxes import TeacherBoxes, box_agreement, teacher_boxes
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.step import QueryReading, Step

SOURCES = ('gt', 'queries', 'positives', 'both', 'boxes', 'gt_boxes')
OF_BOXES = ('boxes', 'gt_boxes')


@dataclass(frozen=True)
class Instances:
    """Boxes of a batch.

    Args:
        boxes: (M, 7) gravity centres, sizes and yaw in metres and radians, LiDAR frame.
        sample: (M,) index of each box's sample.
        weight: (M,) >= 0, how much each one counts.
    """

    boxes: Tensor
    sample: Tensor
    weight: Tensor


class InstanceSource:
    """Finds the instances of a step (the paper: "queries locate instance-level areas").

    Args:
        source: 'gt' = ground truth; 'queries' = boxes of the best queries of the distillation head; 'positives' = the
            boxes of the queries that match ground truth; 'both' = ground truth and the best queries; 'boxes' = what the
            teacher finally detects, which every teacher can say; 'gt_boxes' = ground truth and these.
        top_k: queries or boxes kept per sample, best first.
        min_score: least probability of a kept query's best class, or of a box.
        gate: metres. If given, every instance is weighted by how well the teacher agrees with ground truth there (see
            :func:`agreement`; of sources with 'boxes' its final boxes must agree): a teacher that is wrong is not imitated. None = the paper, all weights are 1.
    """

    def __init__(
        self, source: str = 'gt', top_k: int = 100, min_score: float = 0.1, gate: float | None = None
    ) -> None:
        if source not in SOURCES:
            raise ValueError(f'source must be one of {SOURCES}, got {source!r}')
        if top_k < 1 or not 0 <= min_score <= 1:
            raise ValueError(f'top_k must be >= 1 and min_score in [0, 1], got {top_k} and {min_score}')
        if gate is not None and gate <= 0:
            raise ValueError(f'gate must be a positive distance in metres or None, got {gate}')
        self.source, self.top_k, self.min_score, self.gate = source, top_k, min_score, gate

    @property
    def needs_queries(self) -> bool:
        """Whether the recipe must have a distillation head."""
        return self.source not in OF_BOXES and (self.source != 'gt' or self.gate is not None)

    def __call__(self, step: Step, device: torch.device) -> Instances:
        """Instances of all samples of a step, found once for all terms that look for the same."""
        key = ('instances', self.source, self.top_k, self.min_score, self.gate)
        if key not in step.cache:
            step.cache[key] = self._find(step, device)
        return step.cache[key]

    def _find(self, step: Step, device: torch.device) -> Instances:
        parts = []
        if self.source in ('gt', 'both', 'gt_boxes'):
            parts.append(self._ground_truth(step, device))
        if self.source in OF_BOXES:
            parts.append(self._boxes(step, device))
        if self.source in ('queries', 'both'):
            parts.append(self._queries(step, best_queries(queries_of(step), self.top_k, self.min_score)))
        if self.source == 'positives':
            parts.append(self._queries(step, _matched_queries(step)))
        return Instances(
            *(torch.cat([getattr(part, key) for part in parts]) for key in Instances.__annotations__)
        )

    def _ground_truth(self, step: Step, device: torch.device) -> Instances:
        boxes, sample = join_boxes(step.batch['gt_bboxes_3d'], device)
        weight = boxes.new_ones(len(boxes))
        if self.gate is not None and self.source in OF_BOXES:
            weight = box_agreement(step, self.found(step, device), self.gate)[0]
        elif self.gate is not None and len(boxes):
            weight = agreement(step, self.gate).amax(1)
        return Instances(boxes, sample, weight)

    def found(self, step: Step, device: torch.device) -> TeacherBoxes:
        """The teacher's best final boxes."""
        return teacher_boxes(step, device, self.top_k, self.min_score)

    def _boxes(self, step: Step, device: torch.device) -> Instances:
        found = self.found(step, device)
        weight = found.boxes.new_ones(len(found.boxes))
        if self.gate is not None:
            weight = box_agreement(step, found, self.gate)[1]
        return Instances(found.boxes[:, :7], found.sample, weight)

    def _queries(self, step: Step, chosen: tuple[Tensor, Tensor]) -> Instances:
        sample, query = chosen
        boxes = queries_of(step).boxes[-1, sample, query]
        weight = boxes.new_ones(len(boxes))
        if self.gate is not None:
            weight = query_agreement(step, self.gate)[sample, query]
        return Instances(boxes, sample, weight)


def queries_of(step: Step) -> QueryReading:
    """What the distillation head read in this step; a clear error in a recipe without one."""
    if step.queries is None:
        raise DistillError(
            "queries are asked for, but the recipe has no distillation head; give it head=dict(init='teacher')"
        )
    return step.queries


def best_queries(reading: QueryReading, top_k: int, min_score: float) -> tuple[Tensor, Tensor]:
    """The most confident queries of the last layer.

    Args:
        reading: of the distillation head.
        top_k: queries per sample at the most.
        min_score: least confidence.

    Returns:
        (M,) sample and (M,) query indices.
    """
    confidence, query = reading.confidence[-1].topk(min(top_k, reading.scores.shape[2]), dim=1)
    sample, rank = (confidence >= min_score).nonzero(as_tuple=True)
    return sample, query[sample, rank]


def _matched_queries(step: Step) -> tuple[Tensor, Tensor]:
    """(M,) sample and (M,) query indices of the queries that the host's assigner matches to ground truth."""
    reading = queries_of(step)
    pairs = reading.match(step.batch['gt_bboxes_3d'], step.batch['gt_labels_3d'])
    device = reading.boxes.device
    query = [query.to(device) for query, _ in pairs]
    counts = torch.tensor([len(item) for item in query], device=device)
    sample = torch.repeat_interleave(torch.arange(len(query), device=device), counts)
    return sample, torch.cat(query).long() if query else sample


def agreement(step: Step, distance: float) -> Tensor:
    """How well each query of the teacher agrees with each ground truth, in class and place.

    ``p_q(class of g) * exp(-|centre_q - centre_g| / distance)``, seen from above; 0 between samples.

    Args:
        step: its batch gives ``gt_bboxes_3d`` and ``gt_labels_3d``.
        distance: metres at which a right class counts 1 / e.

    Returns:
        (M, Q) in [0, 1]: M ground-truth boxes in the order of :func:`join_boxes`, Q queries of the same sample.
    """
    reading = queries_of(step)
    boxes, sample = join_boxes(step.batch['gt_bboxes_3d'], reading.boxes.device)
    labels = join_labels(step.batch['gt_labels_3d'], reading.boxes.device)
    right = reading.scores[-1, sample].gather(2, labels[:, None, None].expand(-1, reading.scores.shape[2], 1))
    gap = (reading.boxes[-1, sample, :, :2] - boxes[:, None, :2]).norm(dim=-1)
    return right.squeeze(-1) * torch.exp(-gap / distance)


def query_agreement(step: Step, distance: float) -> Tensor:
    """(B, Q): how well each query agrees with the ground truth that it fits best; 0 where there is none."""
    reading = queries_of(step)
    _, sample = join_boxes(step.batch['gt_bboxes_3d'], reading.boxes.device)
    best = reading.scores.new_zeros(reading.scores.shape[1:3])
    index = sample[:, None].expand(-1, best.shape[1])
    return best.scatter_reduce(0, index, agreement(step, distance), reduce='amax')


class InstanceRegion(Region):
    """The areas of the instances that a source finds; where some overlap, the largest weight counts.

    Args:
        source: whose boxes, see :class:`InstanceSource`.
        top_k: see there.
        min_score: see there.
        gate: see there.
    """

    def __init__(self, source: str, top_k: int, min_score: float, gate: float | None) -> None:
        super().__init__()
        self.instances = InstanceSource(source, top_k, min_score, gate)

    @property
    def needs_queries(self) -> bool:
        """Whether the recipe must have a distillation head."""
        return self.instances.needs_queries

    def forward(self, step: Step, like: Tensor) -> Tensor:
        """Each instance's weight inside it, 0 outside.

        Args:
            step: the present step; boxes are in the LiDAR frame, metres.
            like: (N, C, H, W), the teacher's feature.

        Returns:
            (N, 1, H, W).
        """
        return self.draw(self.instances(step, like.device), step, like)

    def background(self, step: Step, like: Tensor) -> Tensor | None:
        """With a gate, the teacher's confidence that a cell is background: 1 - the best score of its boxes there.

        Args:
            step: the present step.
            like: (N, C, H, W), the teacher's feature.

        Returns:
            (N, 1, H, W) in [0, 1], or None without a gate.
        """
        if self.instances.gate is None:
            return None
        if self.instances.source in OF_BOXES:
            boxes = teacher_boxes(step, like.device, self.instances.top_k, 0.0)
            return 1 - self.draw(Instances(boxes.boxes[:, :7], boxes.sample, boxes.scores), step, like)
        reading = queries_of(step)
        sample, query = best_queries(reading, self.instances.top_k, 0.0)
        found = Instances(reading.boxes[-1, sample, query], sample, reading.confidence[-1, sample, query])
        return 1 - self.draw(found, step, like)

    def draw(self, instances: Instances, step: Step, like: Tensor) -> Tensor:
        """Draw instances at the resolution of a feature (N, C, H, W): (N, 1, H, W)."""
        raise NotImplementedError(f'{type(self).__name__} must say how instances are drawn: implement draw()')

"""What one training step lets the terms see."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.hosts.two_stage.proposals import Refined

Matches = Sequence[tuple[Tensor, Tensor]]


def present_metas(img_metas: Sequence[Any]) -> list[dict[str, Any]]:
    """Metas of the present frames of B samples, of which a camera batch has lists over time."""
    return [meta[-1] if isinstance(meta, Sequence) else meta for meta in img_metas]


def last_frame(batch: Mapping[str, Any]) -> dict[str, Any]:
    """A camera batch, ``img`` (B, T, num_cams, 3, H, W) and ``img_metas`` list[B] of list[T], cut to its last frame."""
    metas = [queue[-1:] for queue in batch['img_metas']]
    return {**batch, 'img': batch['img'][:, -1:], 'img_metas': metas}


def covering(img_metas: Sequence[Any], pc_range: Sequence[float]) -> list[list[dict[str, Any]]]:
    """Metas of the present frames as if the samples covered ``[x0, y0, z0, x1, y1, z1]`` in metres."""
    return [[{**meta, 'pc_range': list(pc_range)}] for meta in present_metas(img_metas)]


@dataclass(frozen=True)
class Sampling:
    """How queries look at one feature: at which of a sample's N maps (its BEV, or one per camera), where, how much.

    Args:
        locations: (num_layers, B, Q, num_heads, N, num_points, 2) sampled positions, (x, y) in units of the map's width
            and height.
        weights: (num_layers, B, Q, num_heads, N, num_points) >= 0, attention; 0 on maps that do not show the query.
        projections: (num_layers, V, C) matrices that turn the feature into the values that a layer takes in; head m
            reads the m-th slice of their V outputs.
    """

    locations: Tensor
    weights: Tensor
    projections: Tensor


@dataclass(frozen=True)
class QueryReading:
    """The refined queries of FD3D's distillation head on the teacher's features; all constants.

    Args:
        boxes: (num_layers, B, Q, 7) gravity centres, sizes and yaw in metres and radians, LiDAR frame.
        scores: (num_layers, B, Q, num_classes) probabilities.
        samplings: how they look at the teacher's features, by the module path of each.
        match: pairs queries of the last layer with ground truth, ``(gt_bboxes_3d, gt_labels_3d) -> B pairs of
            (query indices, ground-truth indices)``.
    """

    boxes: Tensor
    scores: Tensor
    samplings: Mapping[str, Sampling]
    match: Callable[[Sequence, Sequence], Matches]

    def sampling(self, path: str | None) -> Sampling:
        """How the queries look at a feature of the teacher.

        Args:
            path: of its module; None for the only one.

        Raises:
            DistillError: they do not look at it.
        """
        if path is None and len(self.samplings) == 1:
            return next(iter(self.samplings.values()))
        if path not in self.samplings:
            known = ', '.join(map(repr, self.samplings))
            raise DistillError(f"the teacher's queries do not sample {path!r}; they sample {known}")
        return self.samplings[path]

    @property
    def confidence(self) -> Tensor:
        """(num_layers, B, Q): the probability of the most probable class."""
        return self.scores.amax(-1)


def _unchanged(feature: Tensor) -> Tensor:
    return feature


@dataclass
class Step:
    """Everything a term, a region or a loss may look at. It lives for one training step.

    Args:
        batch: the student's batch of the current frame: ``img_metas``, ``gt_bboxes_3d``, ``gt_labels_3d``, ...
        student: what the taps of the student recorded, by module path.
        teacher: what the taps of the teacher recorded, by module path; constants.
        predictions: the teacher's raw predictions, as its host returns them.
        epoch: epochs finished so far; 1.5 is the middle of the second.
        queries: what the distillation head read off the teacher's features, in recipes that have one.
        refined: what a second stage made of the student's boxes, in recipes that have one; live.
        live: the teacher's features with their graph where they have one, for the guard that no term teaches its teacher.
        generated: student features (N, C, H, W) that terms generated anew, by the term's name, for later terms.
        cache: what several terms need alike, computed by the first of them.
        detect: finds the teacher's boxes, for :attr:`detections`.
        align: brings a BEV map of the teacher (B, C, H, W) to what a term compares, which may be a part of it.
        by_teacher: in recipes of several teachers, this step as each of them sees it, by the teacher's name.
    """

    batch: dict[str, Any]
    student: dict[str, Any]
    teacher: dict[str, Any]
    predictions: Any = None
    epoch: float = 0
    queries: QueryReading | None = None
    refined: Refined | None = None
    live: dict[str, Any] = field(default_factory=dict)
    generated: dict[str, Tensor] = field(default_factory=dict)
    cache: dict[Hashable, Any] = field(default_factory=dict)
    detect: Callable[[], Sequence[Any]] | None = None
    align: Callable[[Tensor], Tensor] = _unchanged
    by_teacher: dict[str, 'Step'] = field(default_factory=dict)

    def seen_by(self, teacher: str) -> 'Step':
        """The same step with the features, predictions and boxes of one teacher; '' for the one that is here."""
        return self.by_teacher[teacher] if teacher else self

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

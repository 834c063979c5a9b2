"""The boxes of a first stage, each of which remembers where in the dense head's output it came from."""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

ADDED = -1
"""Index of a box that no anchor and no cell made, such as a shifted ground truth among the boxes of training."""


@dataclass(frozen=True)
class Proposals:
    """Boxes of all B clouds of a batch; constants, since a second stage takes them as given.

    Args:
        boxes: (N, 7) as mmdet3d 1.0 has them: x, y, z of the bottom's centre, length, width, height, yaw; metres and
            radians, LiDAR frame.
        scores: (N,) probability of the most probable class, after the first stage.
        labels: (N,) that class.
        indices: (N,) which row of the dense head's output a box was decoded from, counted within its cloud; see
            :mod:`~projects.mmdet3d_plugin.hosts.two_stage.dense_candidates`. ``ADDED`` for boxes that have none.
        batch_index: (N,) cloud of each box, ascending.
        rows: how many rows the dense head's output has for each cloud.
        velocities: (N, 2) along x and y, m/s, after the first stage; (N, 0) where that predicts none.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    indices: Tensor
    batch_index: Tensor
    rows: int
    velocities: Tensor

    def __len__(self) -> int:
        """N."""
        return len(self.boxes)

    def __getitem__(self, which: Tensor) -> 'Proposals':
        """Some of the boxes: (M,) indices or (N,) bool."""
        return replace(self, **{name: getattr(self, name)[which] for name in _TENSORS})

    @property
    def remembered(self) -> Tensor:
        """(N,) bool: boxes that come from an anchor or a cell, so that the dense output has a row for them."""
        return self.indices != ADDED

    @staticmethod
    def cat(parts: 'list[Proposals]') -> 'Proposals':
        """Several sets in one, in the order of clouds."""
        columns = {name: torch.cat([getattr(part, name) for part in parts]) for name in _TENSORS}
        joined = replace(parts[0], **columns)
        return joined[joined.batch_index.argsort(stable=True)]


_TENSORS = [field.name for field in fields(Proposals) if field.name != 'rows']


@dataclass(frozen=True)
class Refined:
    """What a second stage makes of proposals.

    Args:
        boxes: (N, 7) refined boxes, as those of :class:`Proposals`; velocities stay the first stage's.
        iou_scores: (N,) in (0, 1): how well a proposal overlaps an object of its class, as far as the head can tell.
        class_logits: (N, classes), or None where the head has no branch for classes.
        proposals: what was refined.
        iou_logits: (N,), ``iou_scores`` before the sigmoid.
        residuals: (N, 7) what the head regressed, see :mod:`~projects.mmdet3d_plugin.hosts.two_stage.box_residuals`.
    """

    boxes: Tensor
    iou_scores: Tensor
    class_logits: Tensor | None
    proposals: Proposals
    iou_logits: Tensor
    residuals: Tensor

    def __len__(self) -> int:
        """N."""
        return len(self.boxes)

    def __getitem__(self, which: Tensor) -> 'Refined':
        """Some of the boxes: (M,) indices or (N,) bool."""
        return Refined(
            self.boxes[which],
            self.iou_scores[which],
            None if self.class_logits is None else self.class_logits[which],
            self.proposals[which],
            self.iou_logits[which],
            self.residuals[which],
        )

    def detach(self) -> 'Refined':
        """The same as constants: targets for a student."""
        logits = None if self.class_logits is None else self.class_logits.detach()
        return Refined(
            self.boxes.detach(),
            self.iou_scores.detach(),
            logits,
            self.proposals,
            self.iou_logits.detach(),
            self.residuals.detach(),
        )

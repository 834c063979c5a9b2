"""Which boxes a second stage is trained on."""

from collections.abc import Sequence

import torch
from torch import Tensor

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.hosts.two_stage.proposals import ADDED, Proposals
from projects.mmdet3d_plugin.hosts.two_stage.roi_targets import assign_targets

_EASY = 0.1  # IoU below which a box is background that nobody would take for an object
_HARD_SHARE = 0.8  # of the background, boxes that touch an object


class RoISampler:
    """Adds shifted ground truth to proposals, and takes a balanced sample of them where there are many.

    Args:
        shifted: copies of every object that are added, each moved, resized and turned at random, so that the head sees
            objects from the first step on, when proposals are noise.
        shift: standard deviation of the moves over the object's size, and of the logarithms of the changes of size.
        turn: standard deviation of the turns, radians.
        number: boxes per cloud in training; None for all that there are.
        foreground: largest share of them that may overlap an object by ``foreground_iou``.
        foreground_iou: see there.
    """

    def __init__(
        self,
        shifted: int = 0,
        shift: float = 0.08,
        turn: float = 0.1,
        number: int | None = None,
        foreground: float = 0.5,
        foreground_iou: float = 0.55,
    ) -> None:
        if not 0 <= foreground <= 1 or shifted < 0 or (number is not None and number < 1):
            raise UserError(
                f"the 'sampler' of a second stage needs shifted >= 0, number >= 1 or None and a foreground share in "
                f'[0, 1], got {shifted}, {number} and {foreground}'
            )
        self.shifted, self.shift, self.turn = shifted, shift, turn
        self.number, self.foreground, self.foreground_iou = number, foreground, foreground_iou

    @torch.no_grad()
    def __call__(
        self, proposals: Proposals, gt_boxes: Sequence[Tensor], gt_labels: Sequence[Tensor]
    ) -> Proposals:
        """The boxes to train on.

        Args:
            proposals: N boxes of B clouds.
            gt_boxes: B tensors (n_i, 7+), bottom centres, metres and radians, LiDAR frame.
            gt_labels: B tensors (n_i,).
        """
        if self.number is not None:
            iou = assign_targets(proposals, gt_boxes, gt_labels).iou
            samples = range(len(gt_boxes))
            proposals = proposals[torch.cat([self._sample(proposals, iou, sample) for sample in samples])]
        if not self.shifted:
            return proposals
        return Proposals.cat([proposals, self._shifted(proposals, gt_boxes, gt_labels)])

    def _sample(self, proposals: Proposals, iou: Tensor, sample: int) -> Tensor:
        """Indices of the boxes of one cloud to train on."""
        mine = (proposals.batch_index == sample).nonzero().squeeze(1)
        mine = mine[torch.randperm(len(mine)).to(mine)]
        objects = iou[mine] >= self.foreground_iou
        hard, easy = ~objects & (iou[mine] >= _EASY), ~objects & (iou[mine] < _EASY)
        taken = mine[objects][: round(self.number * self.foreground)]
        left = self.number - len(taken)
        some = max(round(left * _HARD_SHARE), left - int(easy.sum()))
        background = mine[hard][:some]
        return torch.cat([taken, background, mine[easy][: left - len(background)]]).sort().values

    def _shifted(self, like: Proposals, gt_boxes: Sequence[Tensor], gt_labels: Sequence[Tensor]) -> Proposals:
        """Shifted copies of all objects."""
        counts = torch.tensor([len(boxes) * self.shifted for boxes in gt_boxes], device=like.labels.device)
        truth = torch.cat([boxes[:, :7].repeat(self.shifted, 1) for boxes in gt_boxes]).to(like.boxes)
        labels = torch.cat([labels.repeat(self.shifted) for labels in gt_labels]).to(like.labels)
        noise = torch.randn(len(truth), 7).to(truth)
        boxes = truth.clone()
        boxes[:, :3] += noise[:, :3] * self.shift * truth[:, 3:6]
        boxes[:, 3:6] *= (noise[:, 3:6] * self.shift).exp()
        boxes[:, 6] += noise[:, 6] * self.turn
        sample = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
        scores, indices = torch.ones_like(boxes[:, 0]), torch.full_like(labels, ADDED)
        velocities = like.velocities.new_zeros(len(boxes), like.velocities.shape[1])  # nothing asks for them
        return Proposals(boxes, scores, labels, indices, sample, like.rows, velocities)

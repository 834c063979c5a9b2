"""What 2D boxes cover on image features, and what they do not."""

from collections.abc import Sequence

import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.regions.region import Region, cells_between
from projects.mmdet3d_plugin.distill.registry import REGIONS, DistillError
from projects.mmdet3d_plugin.distill.step import Step

SOURCES = ('gt', 'teacher', 'both')


@REGIONS.register_module()
class BoxArea(Region):
    """Cells of image features inside 2D boxes, or outside all of them.

    With ``balance`` and ``attention`` inside, and ``attention`` outside, two terms of
    :class:`~projects.mmdet3d_plugin.distill.losses.feature_l2.FeatureL2` are the foreground and the background of FGD
    (Yang et al., "Focal and Global Knowledge Distillation for Detectors", CVPR 2022), without its attention over
    channels, and normalised by the weights, so that their factors carry over between sizes.

    Args:
        source: whose boxes: 'gt' = ground truth, 'teacher' = those that the teacher finds, 'both'.
        outside: weight what no box covers instead.
        balance: every box counts as much as any other: its cells weigh one over their number. Where boxes overlap, the
            largest weight counts, which is the smallest box's.
        attention: temperature of the teacher's spatial attention, ``h w softmax(mean_c |T| / attention)``, which
            multiplies the weights; None for 1 everywhere.
        min_score: of the teacher's boxes, which weigh their scores.
    """

    def __init__(
        self,
        source: str = 'gt',
        outside: bool = False,
        balance: bool = False,
        attention: float | None = None,
        min_score: float = 0.3,
    ) -> None:
        super().__init__()
        if source not in SOURCES:
            raise ValueError(f'source must be one of {SOURCES}, got {source!r}')
        if attention is not None and attention <= 0:
            raise ValueError(f'attention must be a positive temperature or None, got {attention}')
        if not 0 <= min_score <= 1:
            raise ValueError(f'min_score must be in [0, 1], got {min_score}')
        self.source, self.outside, self.balance = source, outside, balance
        self.attention, self.min_score = attention, min_score

    def forward(self, step: Step, like: Tensor) -> Tensor:
        """Weights at the resolution of one level of image features.

        Args:
            step: its batch gives ``img`` (B, 3, H, W) and ``gt_bboxes`` (list of B (n, 4), pixels of that image).
            like: (B, C, h, w), the teacher's feature; cells share out the padded image evenly.

        Returns:
            (B, 1, h, w).
        """
        key = ('box_area', self.source, self.min_score, self.balance, tuple(like.shape[-2:]))
        if key not in step.cache:  # inside and outside share it
            boxes, sample, weight = self._boxes(step, like.device)
            image = tuple(step.batch['img'].shape[-2:])
            step.cache[key] = draw_boxes(boxes, sample, weight, image, tuple(like.shape), self.balance)
        area = step.cache[key]
        area = (area == 0).to(area) if self.outside else area
        return area if self.attention is None else area * spatial_attention(like, self.attention)

    def _boxes(self, step: Step, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (M, 4) in pixels, their samples (M,) and weights (M,)."""
        found = []
        if self.source != 'teacher':
            if 'gt_bboxes' not in step.batch:
                raise DistillError(
                    "BoxArea draws 2D boxes, but the batch has no 'gt_bboxes'; PVArea draws 3D boxes"
                )
            found += [(i, boxes, None) for i, boxes in enumerate(step.batch['gt_bboxes'])]
        if self.source != 'gt':
            found += [(i, item.boxes, item.scores) for i, item in enumerate(step.detections)]
        return join_image_boxes(found, self.min_score, device)


def join_image_boxes(
    found: Sequence[tuple[int, Tensor, Tensor | None]], min_score: float, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Put boxes of several images and sources in one tensor.

    Args:
        found: (sample, (n, 4) boxes in pixels, (n,) scores or None for 1).
        min_score: least score.
        device: where the result lives.

    Returns:
        (M, 4) boxes, (M,) samples and (M,) weights.

    Raises:
        DistillError: a box holds a number that is not finite.
    """
    none = torch.zeros(0, device=device)
    boxes, samples, weights = [none.view(0, 4)], [none.long()], [none]
    for sample, item, scores in found:
        item = item.to(device=device, dtype=torch.float32)
        scores = item.new_ones(len(item)) if scores is None else scores.to(item)
        kept = scores >= min_score
        boxes.append(item[kept])
        weights.append(scores[kept])
        samples.append(torch.full_like(scores[kept], sample, dtype=torch.long))
    joined = torch.cat(boxes)
    if not joined.isfinite().all():
        raise DistillError('a 2D box holds a number that is not finite: look at annotations and teacher')
    return joined, torch.cat(samples), torch.cat(weights)


def draw_boxes(
    boxes: Tensor,
    sample: Tensor,
    weight: Tensor,
    image: tuple[int, int],
    shape: tuple[int, ...],
    balance: bool = False,
) -> Tensor:
    """Draw rectangles on a feature map; where some overlap, the largest weight counts.

    A cell belongs to a box when its centre lies inside; a box between the centres keeps the cell of its own centre.

    Args:
        boxes: (M, 4) left, top, right, bottom in pixels.
        sample: (M,) index of each box's image.
        weight: (M,) weights >= 0.
        image: (H, W) of the padded image in pixels.
        shape: (B, C, h, w) of the feature.
        balance: divide each box's weight by the number of its cells.

    Returns:
        (B, 1, h, w).
    """
    b, _, h, w = shape
    cell = boxes.new_tensor([image[1] / w, image[0] / h])
    low, high = (boxes.view(-1, 2, 2) / cell).unbind(1)
    last = boxes.new_tensor([w - 1, h - 1])
    home = torch.minimum(((low + high) / 2).floor().clamp(min=0), last)
    first, final = (low - 0.5).ceil().clamp(min=0), torch.minimum((high - 0.5).floor(), last)
    between = (final < first).any(1, keepdim=True)
    first, final = torch.where(between, home, first), torch.where(between, home, final)
    if balance:
        weight = weight / (final - first + 1).prod(1)
    box, (column, row) = (part.T if part.dim() > 1 else part for part in cells_between(first, final))
    index = (sample[box] * h + row.long()) * w + column.long()
    canvas = weight.new_zeros(b * h * w).scatter_reduce(0, index, weight[box], reduce='amax')
    return canvas.view(b, 1, h, w)


def spatial_attention(feature: Tensor, temperature: float) -> Tensor:
    """FGD's spatial attention of a feature (N, C, h, w): (N, 1, h, w) with mean 1."""
    n, _, h, w = feature.shape
    strength = feature.abs().mean(1).flatten(1) / temperature
    return (h * w * strength.softmax(1)).view(n, 1, h, w)

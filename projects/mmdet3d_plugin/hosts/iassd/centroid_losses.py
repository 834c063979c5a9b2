"""Losses of IA-SSD."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from projects.mmdet3d_plugin.hosts.iassd.centroid_box_coder import CentroidBoxCoder
from projects.mmdet3d_plugin.hosts.iassd.centroid_outputs import CentroidOutputs
from projects.mmdet3d_plugin.hosts.iassd.instance_aware_net import Confidence
from projects.mmdet3d_plugin.hosts.iassd.point_targets import (
    Assignment,
    assign_points,
    centerness,
    counting_points,
)
from projects.mmdet3d_plugin.hosts.iassd.sampling_stage import CENTROID_AWARE
from projects.mmdet3d_plugin.hosts.two_stage.box_residuals import corners_of


class CentroidLosses:
    """All that IA-SSD learns from; every loss is a mean over what is foreground in the batch, 0 where nothing is. Points in
    ignored boxes that are in no object's are not background of the first and third loss.

    - ``loss_sampling``: binary cross-entropy of every stage's class scores ("class-aware sampling"), in which a foreground
      point counts as much as it is central in its object ("centroid-aware sampling");
    - ``loss_centroid``: of points in and around objects, the distance to the object's centre as predicted from the true
      one, and how far the predictions for one object lie from their mean, L1, every object alike;
    - ``loss_cls``: binary cross-entropy of a centroid's scores with how central it came to lie as the target of its
      class, as the published configuration has it;
    - ``loss_bbox``, ``loss_dir``, ``loss_corner``: offsets and sizes, smooth L1; yaw bin, cross-entropy, and rest, smooth
      L1; corners of the decoded box, smooth L1, whichever way it points.

    Args:
        coder: of boxes.
        margin: metres by which objects are larger where points of a stage are foreground.
        context: metres by which objects are larger where points learn to find their centres.
        compactness: weight of the second part of ``loss_centroid``; the published configuration leaves it out.
        sampling, centroid, cls, bbox, direction, corner: weights.
        beta: of the smooth L1 losses of codes.
    """

    def __init__(
        self,
        coder: CentroidBoxCoder,
        margin: float = 0.2,
        context: float = 1.0,
        compactness: float = 1.0,
        sampling: float = 1.0,
        centroid: float = 1.0,
        cls: float = 1.0,
        bbox: float = 1.0,
        direction: float = 0.2,
        corner: float = 1.0,
        beta: float = 1 / 9,
    ) -> None:
        self.coder, self.margin, self.context, self.compactness = coder, margin, context, compactness
        self.beta = beta
        self.weights = dict(
            loss_sampling=sampling,
            loss_centroid=centroid,
            loss_cls=cls,
            loss_bbox=bbox,
            loss_dir=direction,
            loss_corner=corner,
        )

    def __call__(
        self,
        outputs: CentroidOutputs,
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        num_classes: int,
        ignored: Sequence[Tensor] | None = None,
    ) -> dict[str, Any]:
        """Weighted losses, by name.

        Args:
            outputs: of the head.
            boxes: B times (n_i, 7), bottom centres.
            labels: B times (n_i,).
            num_classes: of objects.
            ignored: B times (m_i, 7).
        """
        objects = assign_points(outputs.origins, outputs.counts, boxes, labels, self.context)
        counted = counting_points(outputs.origins, outputs.counts, objects, ignored, self.context)
        found = dict(
            loss_sampling=[self.sampling(said, boxes, labels, ignored) for said in outputs.confidences],
            loss_centroid=self.centroid(outputs, objects),
            loss_cls=self.classification(outputs, objects, num_classes, counted),
            **self.box(outputs, objects),
        )
        found['loss_sampling'] = sum(found['loss_sampling'], outputs.logits.sum() * 0)
        return {name: self.weights[name] * loss for name, loss in found.items()}

    def sampling(
        self,
        said: Confidence,
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        ignored: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Of the scores by which one stage samples."""
        objects = assign_points(said.places, said.counts, boxes, labels, self.margin)
        mine = objects.foreground
        target = torch.zeros_like(said.logits)
        weight = torch.ones_like(said.logits)
        row, label = mine.nonzero().squeeze(1), objects.labels[objects.objects[mine]]
        target[row, label] = 1
        if said.sample == CENTROID_AWARE:
            weight[row, label] = centerness(said.places[mine], objects.boxes[objects.objects[mine]])
        loss = F.binary_cross_entropy_with_logits(said.logits, target, weight, reduction='none').mean(1)
        counted = counting_points(said.places, said.counts, objects, ignored, self.margin)
        return loss[counted].sum() / mine.sum().clamp(min=1)

    def centroid(self, outputs: CentroidOutputs, objects: Assignment) -> Tensor:
        """Of the shifts, before they are cut."""
        mine, owner = objects.foreground, objects.objects[objects.foreground]
        predicted = (outputs.origins + outputs.shifts)[mine]
        center = objects.boxes[owner, :3].clone()
        center[:, 2] += objects.boxes[owner, 5] / 2
        counts = torch.bincount(owner, minlength=len(objects.boxes)).clamp(min=1).to(predicted)
        sums = predicted.new_zeros(len(objects.boxes), 3).index_add(0, owner, predicted)
        spread = (predicted - (sums / counts[:, None])[owner]).abs().sum(1)
        each = (predicted - center).abs().sum(1) + self.compactness * spread
        return (each / counts[owner]).sum() / max(1, len(owner.unique()))

    def classification(
        self, outputs: CentroidOutputs, objects: Assignment, num_classes: int, counted: Tensor | slice
    ) -> Tensor:
        """Of the scores of the centroids (M,) that count."""
        mine, owner = objects.foreground, objects.objects[objects.foreground]
        target = outputs.logits.new_zeros(len(outputs.logits), num_classes)
        central = centerness(outputs.centroids.detach()[mine], objects.boxes[owner])
        target[mine.nonzero().squeeze(1), objects.labels[owner]] = central
        loss = F.binary_cross_entropy_with_logits(outputs.logits, target, reduction='none').mean(1)
        return loss[counted].sum() / mine.sum().clamp(min=1)

    def box(self, outputs: CentroidOutputs, objects: Assignment) -> dict[str, Tensor]:
        """Of the boxes of foreground centroids."""
        mine, owner = objects.foreground, objects.objects[objects.foreground]
        codes, places = outputs.codes[mine], outputs.centroids.detach()[mine]
        boxes, labels, count = objects.boxes[owner], objects.labels[owner], max(1, len(owner))
        target, number, rest = self.coder.encode(boxes, labels, places)
        logits, rests = codes[:, 6:].chunk(2, 1)
        own = rests.gather(1, number[:, None]).squeeze(1)
        turned = F.cross_entropy(logits, number, reduction='sum') + self._smooth(own, rest)
        decoded = self.coder.decode(codes, labels, places)
        return dict(
            loss_bbox=self._smooth(codes[:, :6], target) / count,
            loss_dir=turned / count,
            loss_corner=corner_distance(decoded, boxes).sum() / count,
        )

    def _smooth(self, codes: Tensor, targets: Tensor) -> Tensor:
        return F.smooth_l1_loss(codes, targets, reduction='sum', beta=self.beta)


def corner_distance(boxes: Tensor, targets: Tensor) -> Tensor:
    """Smooth L1 distance of corners, the mean of eight; of the target and its reverse, the nearer one.

    Args:
        boxes: (N, 7), bottom centres.
        targets: (N, 7).

    Returns:
        (N,).
    """
    turned = torch.cat([targets[:, :6], targets[:, 6:] + torch.pi], 1)
    own = corners_of(boxes)
    gaps = [(own - corners_of(other)).norm(dim=2) for other in (targets, turned)]
    gap = torch.minimum(*gaps)
    return F.smooth_l1_loss(gap, torch.zeros_like(gap), reduction='none').mean(1)

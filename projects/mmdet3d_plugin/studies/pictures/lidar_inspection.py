"""What the terms of LiDAR recipes look at, of one sample, as arrays to be drawn."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.center_heads import Heads, boxes_by_task
from projects.mmdet3d_plugin.distill.dense_heads.dense_head import DenseHead
from projects.mmdet3d_plugin.distill.losses.local_graph import LocalGraph, rows_of
from projects.mmdet3d_plugin.distill.losses.pivotal_logit import PivotalLogit
from projects.mmdet3d_plugin.distill.losses.sub_head import SubHead
from projects.mmdet3d_plugin.distill.regions.region import pc_range_of
from projects.mmdet3d_plugin.distill.step import Step
from projects.mmdet3d_plugin.distill.term import Term
from projects.mmdet3d_plugin.distill.voxel_features import VoxelFeatures
from projects.mmdet3d_plugin.hosts.two_stage.proposals import Refined
from projects.mmdet3d_plugin.visualization.box_set import BoxSet
from projects.mmdet3d_plugin.visualization.lidar_view import Importance, Pivots


def read_importance(terms: Mapping[str, Term], step: Step) -> list[Importance]:
    """What terms with a ``LocalGraph`` on voxels weigh; a sample without voxels gives none.

    Args:
        terms: of a recipe, by name.
        step: of one sample.
    """
    local = {name: term for name, term in terms.items() if isinstance(term.loss, LocalGraph)}
    pairs = ((name, term.loss, *term.features(step)) for name, term in local.items())
    return [
        _importance(name, loss, student, teacher)
        for name, loss, student, teacher in pairs
        if isinstance(teacher, VoxelFeatures) and len(teacher.coors)
    ]


def _importance(name: str, loss: LocalGraph, student: VoxelFeatures, teacher: VoxelFeatures) -> Importance:
    graph = loss.graph(rows_of(student, teacher)[0])
    size = teacher.coors.new_tensor(teacher.grid.voxel_size[:2], dtype=torch.float32)
    low = size.new_tensor(teacher.grid.pc_range[:2])
    places = (low + (teacher.coors[:, [3, 2]] + 0.5) * size).cpu().numpy()
    centre, neighbour = graph.centre.cpu().numpy(), graph.neighbour.cpu().numpy()
    return Importance(
        name=name,
        centres=places[centre],
        weights=graph.weight.cpu().numpy(),
        neighbours=places[neighbour],
        size=teacher.grid.voxel_size[:2],
        total=len(places),
    )


def read_pivots(terms: Mapping[str, Term], step: Step) -> list[Pivots]:
    """The heatmaps that terms with a ``PivotalLogit`` compare, and how sure sub-heads are where; arguments as for
    :func:`read_importance`."""
    readers = {PivotalLogit: _pivots, SubHead: _sub_head}
    return [
        read(name, term, step)
        for name, term in terms.items()
        for kind, read in readers.items()
        if isinstance(term.loss, kind)
    ]


def _sub_head(name: str, term: Term, step: Step) -> Pivots:
    student, teacher = term.features(step)
    limits, loss = list(pc_range_of(step.batch['img_metas'])), term.loss
    maps = dict(
        teacher=_most_probable(loss.teacher_head, teacher),
        student=_most_probable(loss.host, loss.outputs(student, teacher)),
    )
    return Pivots(name=name, weight=None, limits=limits, own=limits, **maps)


def _most_probable(head: DenseHead, outputs: Any) -> np.ndarray:
    """The highest probability of any class and anchor in each cell of one sample, (H, W)."""
    best = head.logits(outputs)[0].sigmoid().amax(1)  # places, each (H, W) or (H, W, anchors)
    return best.view(*head.map_size(outputs), -1).amax(2).float().cpu().numpy()


def both_stages(refined: Refined) -> tuple[BoxSet, BoxSet]:
    """The first stage's boxes by their class scores, and the second's by their IoU scores."""
    before, labels = refined.proposals, refined.proposals.labels.cpu().numpy()
    pairs = (before.boxes, before.scores), (refined.boxes, refined.iou_scores)
    first, second = (_box_set(boxes, labels, scores) for boxes, scores in pairs)
    return first, second


def _box_set(boxes: Tensor, labels: np.ndarray, scores: Tensor) -> BoxSet:
    """Boxes (N, 7) on their bottoms as those with gravity centres."""
    middle = boxes.detach().cpu().double()
    middle = torch.cat([middle[:, :2], middle[:, 2:3] + middle[:, 5:6] / 2, middle[:, 3:]], 1)
    return BoxSet(middle.numpy(), labels, scores.detach().cpu().numpy())


def _pivots(name: str, term: Term, step: Step) -> Pivots:
    student, teacher = term.features(step)
    own = list(term.loss.pc_range or pc_range_of(step.batch['img_metas']))
    limits = list(term.loss.teacher_range or own)
    weights = [
        term.loss.weight(head['heatmap'].sigmoid(), *truth, limits)
        for head, truth in zip(teacher, boxes_by_task(step, teacher), strict=True)
    ]
    return Pivots(
        name=name,
        teacher=_highest(_probabilities(teacher)),
        student=_highest(_probabilities(student)),
        weight=_highest(weights),
        limits=limits,
        own=own,
    )


def _probabilities(heads: Heads) -> list[Tensor]:
    return [head['heatmap'].sigmoid() for head in heads]


def _highest(maps: Sequence[Tensor]) -> np.ndarray:
    """Maps (1, K, H, W) of several tasks -> (H, W)."""
    return torch.cat(list(maps), dim=1)[0].amax(0).float().cpu().numpy()

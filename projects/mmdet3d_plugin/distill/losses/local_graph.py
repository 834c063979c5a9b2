"""PointDistiller (Zhang et al., CVPR 2023): the local geometry around important voxels or points, as a graph."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss
from projects.mmdet3d_plugin.distill.registry import LOSSES
from projects.mmdet3d_plugin.distill.voxel_features import VoxelFeatures, require_same_rows
from projects.mmdet3d_plugin.hosts.iassd.point_set import PointSet
from projects.mmdet3d_plugin.ops.knn import nearest_rows

REWEIGHTING = ('relative', 'counts', 'none')


@dataclass(frozen=True)
class Rows:
    """One sample's rows: voxels, points, or cells of a map.

    Args:
        student: (V, C_S).
        teacher: (V, C_T), constant.
        importance: (V,): points per voxel, or the largest channel of the teacher.
    """

    student: Tensor
    teacher: Tensor
    importance: Tensor


@dataclass(frozen=True)
class Graph:
    """One sample's edges, from N important rows to the K rows nearest in the teacher's feature space.

    Args:
        centre: (N,) indices of rows.
        neighbour: (N, K) indices of rows; the first is the centre itself.
        weight: (N,) phi of the paper, mean 1.
    """

    centre: Tensor
    neighbour: Tensor
    weight: Tensor


class EdgeAdapter(nn.Module):
    """gamma of the paper: 1x1 convolution of edge features ``[f_j ; f_i]``, batch norm over all edges, ReLU.

    The convolution is split into what it does to neighbours and to centres, so it runs once per row and not once
    per edge, and edges of 2C numbers never exist: the same values with K times fewer multiplications.

    Args:
        in_channels: C of the rows.
        width: c of the result.
        sub: edge features are ``[f_j - f_i ; f_i]``.
    """

    def __init__(self, in_channels: int, width: int, sub: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * in_channels, width, bias=False)
        self.norm = nn.BatchNorm1d(width)
        self.sub = sub

    def forward(self, rows: Sequence[Tensor], graphs: Sequence[Graph]) -> Tensor:
        """Edge features of all samples.

        Args:
            rows: B tensors (V_b, C).
            graphs: B graphs of N_b centres and K_b neighbours.

        Returns:
            (E, c), E = sum over b of N_b * K_b; >= 0.
        """
        near, own = self.linear.weight.chunk(2, dim=1)
        own = own - near if self.sub else own
        edges = [
            (value @ near.t())[graph.neighbour] + (value @ own.t())[graph.centre, None]
            for value, graph in zip(rows, graphs, strict=True)
        ]
        return self.norm(torch.cat([edge.flatten(0, 1) for edge in edges])).relu()


@LOSSES.register_module()
class LocalGraph(DistillLoss):
    """Local distillation with reweighted learning, on voxels, points or cells of a map.

    Per sample: ``mean_ijc(phi_i * (gamma_T(e^T_ij) - gamma_S(e^S_ij))^2)`` over the N most important rows i and
    their K neighbours j, then the mean over samples that have rows. The paper multiplies by lambda = 2: the term's ``weight``.

    Both adapters are trained along, as published, so they may agree on what is easy and not on what matters: on one real
    frame twelve steps took their answers from 6.3 effective dimensions of 16 to 1.9, and the loss from 1.1 to 0.02.
    ``train_teacher_adapter=False`` keeps the question as it was (6.3, and 0.29).

    Args:
        channels: C of the teacher's rows.
        student_channels: C of the student's rows.
        num_query: N; clamped to the rows of a sample.
        k: K; clamped to the rows of a sample.
        width: channels c of the adapters' result.
        tau: temperature of ``phi = N * softmax(s / tau)``.
        reweighting: 'relative' divides importances by the sample's largest, so that ``tau`` carries over between
            voxels, points and maps. 'counts' takes them as they are, which at the published ``tau=1e-2`` gives all
            the weight to full pillars. 'none' weighs all alike, as the published code does for PointRCNN.
        compat: with 'none', every row weighs as much as there are samples on a GPU, which is what the published code
            comes to for SECOND and nuScenes: its softmax runs over an axis of length 1, times the batch size.
        pool: keep only the largest of the K edges per channel, as for PointRCNN.
        sub: edge features are ``[f_j - f_i ; f_i]`` and not ``[f_j ; f_i]``.
        train_teacher_adapter: False keeps the teacher's adapter as it was initialised.
    """

    takes_connector = False

    def __init__(
        self,
        channels: int,
        student_channels: int,
        num_query: int = 6000,
        k: int = 128,
        width: int = 32,
        tau: float = 0.5,
        reweighting: str = 'relative',
        pool: bool = False,
        sub: bool = False,
        train_teacher_adapter: bool = True,
        compat: bool = False,
    ) -> None:
        super().__init__()
        if min(num_query, k, width) < 1 or tau <= 0:
            raise ValueError(
                f'num_query, k, width and tau must be positive, got {num_query}, {k}, {width} and {tau}'
            )
        if reweighting not in REWEIGHTING:
            raise ValueError(f'reweighting must be one of {REWEIGHTING}, got {reweighting!r}')
        if compat and reweighting != 'none':
            raise ValueError(f"compat belongs to reweighting='none', got {reweighting!r}")
        self.num_query, self.k, self.tau, self.reweighting, self.pool = num_query, k, tau, reweighting, pool
        self.compat = compat
        self.student_adapter = EdgeAdapter(student_channels, width, sub)
        self.teacher_adapter = EdgeAdapter(channels, width, sub).requires_grad_(train_teacher_adapter)

    def forward(self, student: Any, teacher: Any) -> Tensor:
        """Distance between two graphs of local features.

        Args:
            student: :class:`VoxelFeatures`, :class:`PointSet`, points (B, C_S, N) or a map (B, C_S, H, W).
            teacher: the same with C_T channels, constant; its voxels are the student's, row by row.

        Returns:
            Scalar.
        """
        samples = rows_of(student, teacher)
        graphs = [self.graph(rows) for rows in samples]
        counts = [graph.neighbour.numel() for graph in graphs]
        if sum(counts) < 2:  # a batch norm has no statistics of less
            feature = student if isinstance(student, Tensor) else student.features
            # a live graph to the student and to all parameters, which distributed training waits for
            return feature.sum() * 0 + sum(p.sum() for p in self.parameters() if p.requires_grad) * 0
        student = self.student_adapter([rows.student for rows in samples], graphs).split(counts)
        teacher = self.teacher_adapter([rows.teacher for rows in samples], graphs).split(counts)
        losses = [self._distance(*item) for item in zip(student, teacher, graphs, strict=True)]
        return torch.stack(losses).mean() * (len(samples) if self.compat else 1)

    @torch.no_grad()
    def graph(self, rows: Rows) -> Graph:
        """Choose the important rows of a sample, their neighbours among all of its rows, and their weights."""
        count = min(self.num_query, len(rows.importance))
        importance, centre = rows.importance.topk(count)
        neighbour = nearest_rows(rows.teacher, centre, self.k)
        return Graph(centre, neighbour, self.weight(importance))

    def weight(self, importance: Tensor) -> Tensor:
        """phi, the weights of N rows with mean 1.

        Args:
            importance: (N,).

        Returns:
            (N,).
        """
        if self.reweighting == 'none' or len(importance) == 0:
            return torch.ones_like(importance)
        if self.reweighting == 'relative':
            importance = importance / importance.abs().max().clamp(min=torch.finfo(importance.dtype).tiny)
        return len(importance) * (importance / self.tau).softmax(0)

    def _distance(self, student: Tensor, teacher: Tensor, graph: Graph) -> Tensor:
        """(N * K, c) edges of both -> scalar of one sample."""
        student, teacher = (value.unflatten(0, graph.neighbour.shape) for value in (student, teacher))
        if self.pool:
            student, teacher = student.amax(1, keepdim=True), teacher.amax(1, keepdim=True)
        return (graph.weight[:, None, None] * (student - teacher).square()).mean()


def rows_of(student: Any, teacher: Any) -> list[Rows]:
    """Part two features into the rows of each sample.

    Args:
        student: :class:`VoxelFeatures`, :class:`PointSet`, points (B, C_S, N) or a map (B, C_S, H, W).
        teacher: the same, with rows in the same order.

    Returns:
        Samples that have rows. A voxel's importance is the number of its points, any other row's the teacher's
        largest channel.
    """
    if isinstance(student, VoxelFeatures) and isinstance(teacher, VoxelFeatures):
        return _voxel_rows(student, teacher)
    if isinstance(student, PointSet) and isinstance(teacher, PointSet):
        return _point_rows(student, teacher)
    if not isinstance(student, Tensor) or not isinstance(teacher, Tensor):
        kinds = f'{type(student).__name__} and {type(teacher).__name__}'
        raise ValueError(f'LocalGraph needs two VoxelFeatures, two PointSets or two tensors, got {kinds}')
    if student.shape[0] != teacher.shape[0] or student.shape[2:] != teacher.shape[2:] or student.dim() < 3:
        raise ValueError(
            f'the student gives {tuple(student.shape)} and the teacher {tuple(teacher.shape)}; LocalGraph needs '
            'the same points or the same map size: tap both at the same stride'
        )
    pairs = zip(student.flatten(2).transpose(1, 2), teacher.flatten(2).transpose(1, 2), strict=True)
    return [Rows(ours, theirs, theirs.amax(1)) for ours, theirs in pairs]


def _voxel_rows(student: VoxelFeatures, teacher: VoxelFeatures) -> list[Rows]:
    """Rows of the samples that have voxels, in whatever order those lie."""
    require_same_rows(student, teacher)
    sample, importance = student.coors[:, 0], teacher.num_points.to(teacher.features.dtype)
    counts = [count for count in torch.bincount(sample.long()).tolist() if count > 0]
    order = sample.argsort(stable=True)
    columns = (student.features[order], teacher.features[order], importance[order])
    return [Rows(*parts) for parts in zip(*(column.split(counts) for column in columns), strict=True)]


def _point_rows(student: PointSet, teacher: PointSet) -> list[Rows]:
    """Rows of the clouds that have points."""
    if student.counts != teacher.counts or not torch.equal(student.places, teacher.places):
        raise ValueError(
            'points cannot be compared row by row: student and teacher look at different ones; tap both where points are '
            "spread evenly (on='points'), and let both keep as many"
        )
    parts = zip(student.features.split(student.counts), teacher.features.split(teacher.counts), strict=True)
    return [Rows(ours, theirs, theirs.amax(1)) for ours, theirs in parts if len(ours)]

"""PointDistiller's local graph against the paper's formula, written out edge by edge in float64."""

import math
from dataclasses import replace
from itertools import chain

import pytest
import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.losses.local_graph import EdgeAdapter, LocalGraph, rows_of
from projects.mmdet3d_plugin.distill.voxel_features import VoxelFeatures, VoxelGrid

GRID = VoxelGrid((0.4, 0.4, 4.0), (0.0, -3.2, -3.0, 6.4, 3.2, 1.0), 32)


def voxels(features: Tensor, samples: list[int], points: Tensor | None = None) -> VoxelFeatures:
    """Voxels in a row; ``samples`` says how many each sample has."""
    sample = torch.repeat_interleave(torch.arange(len(samples)), torch.tensor(samples))
    coors = torch.stack([sample, *(torch.arange(len(features)) + i for i in range(3))], dim=1)
    points = torch.ones(len(features), dtype=torch.long) if points is None else points
    return VoxelFeatures(features, coors, points, GRID)


def pair(samples: list[int], seed: int = 0) -> tuple[VoxelFeatures, VoxelFeatures]:
    """A student's (C = 3) and a teacher's (C = 5) voxels with 1 to 32 points, float64."""
    generator = torch.Generator().manual_seed(seed)
    count = sum(samples)
    points = torch.randint(1, 33, (count,), generator=generator)
    of_student, of_teacher = (
        torch.randn(count, channels, generator=generator, dtype=torch.float64) for channels in (3, 5)
    )
    return voxels(of_student, samples, points), voxels(of_teacher, samples, points)


def build(seed: int = 0, **changes: object) -> LocalGraph:
    torch.manual_seed(seed)
    loss = LocalGraph(**{'channels': 5, 'student_channels': 3, 'num_query': 4, 'k': 3, 'width': 2} | changes)
    return loss.double()


def tied(**changes: object) -> LocalGraph:
    """Equal widths, equal adapters."""
    loss = build(student_channels=5, **changes)
    loss.student_adapter.load_state_dict(loss.teacher_adapter.state_dict())
    return loss


def edge(adapter: EdgeAdapter, rows: list[list[float]], i: int, j: int) -> list[float]:
    """gamma of one edge by a 1x1 convolution of ``[f_j ; f_i]``, the norm in evaluation mode, and ReLU."""
    pair = ([a - b for a, b in zip(rows[j], rows[i], strict=True)] if adapter.sub else rows[j]) + rows[i]
    out = []
    for c, weights in enumerate(adapter.linear.weight.tolist()):
        value = sum(w * f for w, f in zip(weights, pair, strict=True))
        norm = adapter.norm
        value = (value - norm.running_mean[c].item()) / math.sqrt(norm.running_var[c].item() + norm.eps)
        out.append(max(0.0, value * norm.weight[c].item() + norm.bias[c].item()))
    return out


def published(loss: LocalGraph, student: VoxelFeatures, teacher: VoxelFeatures) -> float:
    """``mean_ijc(phi_i (gamma_T(e^T_ij) - gamma_S(e^S_ij))^2)`` of one sample, number by number."""
    of_student, of_teacher = student.features.tolist(), teacher.features.tolist()
    points = [float(p) for p in teacher.num_points]
    chosen = sorted(range(len(points)), key=lambda i: -points[i])[: loss.num_query]
    scale = max(points) if loss.reweighting == 'relative' else 1.0
    raw = [math.exp(points[i] / scale / loss.tau) for i in chosen]
    total, terms = 0.0, 0
    for i, weight in zip(chosen, raw, strict=True):
        phi = 1.0 if loss.reweighting == 'none' else len(chosen) * weight / sum(raw)
        near = sorted(range(len(points)), key=lambda j: math.dist(of_teacher[i], of_teacher[j]))[: loss.k]
        ours = [edge(loss.student_adapter, of_student, i, j) for j in near]
        theirs = [edge(loss.teacher_adapter, of_teacher, i, j) for j in near]
        if loss.pool:
            ours, theirs = (
                [[max(column) for column in zip(*edges, strict=True)]] for edges in (ours, theirs)
            )
        for a, b in zip(chain(*theirs), chain(*ours), strict=True):
            total, terms = total + phi * (a - b) ** 2, terms + 1
    return total / terms


@pytest.mark.parametrize('reweighting', ['relative', 'counts', 'none'])
@pytest.mark.parametrize(('pool', 'sub'), [(False, False), (True, False), (False, True)])
def test_equals_the_papers_formula(reweighting: str, pool: bool, sub: bool) -> None:
    student, teacher = pair([11])
    points = (
        torch.randperm(32)[:11] + 1
    )  # no ties: which of two equal rows is among the top N is anybody's guess
    student, teacher = replace(student, num_points=points), replace(teacher, num_points=points)
    loss = build(reweighting=reweighting, pool=pool, sub=sub, tau=0.7)
    loss(student, teacher)  # gives the norms statistics of_teacher than 0 and 1
    loss.eval()
    assert loss(student, teacher).item() == pytest.approx(published(loss, student, teacher), rel=1e-9)


def test_gradcheck() -> None:
    student, teacher = pair([4, 2])
    loss = build()

    def value(features: Tensor) -> Tensor:
        return loss(replace(student, features=features), teacher)

    assert torch.autograd.gradcheck(value, (student.features.requires_grad_(),))


def test_gradient_reaches_the_student_and_both_adapters_but_no_teacher() -> None:
    student, teacher = pair([8])
    student.features.requires_grad_()
    loss = build()
    loss(student, teacher).backward()
    assert student.features.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in loss.parameters())
    frozen = build(train_teacher_adapter=False)
    frozen(student, teacher).backward()
    assert all(p.grad is None for p in frozen.teacher_adapter.parameters())


def test_zero_when_features_and_adapters_are_equal() -> None:
    _, teacher = pair([9, 5])
    assert tied()(teacher, teacher).item() == 0.0


def test_batch_of_two_equals_two_singles_in_evaluation_mode() -> None:
    """In training mode the adapters' batch norm looks at the batch, as published."""
    loss = build().eval()
    student, teacher = pair([7, 9])
    singles = []
    for i in range(2):
        mine = teacher.coors[:, 0] == i
        parts = [
            VoxelFeatures(v.features[mine], v.coors[mine], v.num_points[mine], GRID)
            for v in (student, teacher)
        ]
        singles.append(loss(*parts).item())
    assert loss(student, teacher).item() == pytest.approx(sum(singles) / 2, rel=1e-12)


def test_order_of_rows_does_not_matter() -> None:
    student, teacher = pair([7, 9])
    order = torch.randperm(16)
    mixed = [
        VoxelFeatures(v.features[order], v.coors[order], v.num_points[order], GRID)
        for v in (student, teacher)
    ]
    # All rows ask, so that equal numbers of points leave no choice.
    loss = build(num_query=100).eval()
    assert loss(*mixed).item() == pytest.approx(loss(student, teacher).item(), rel=1e-12)


def test_neighbours_stay_within_their_sample() -> None:
    """Equal features in the of_teacher sample are as near as can be, and are not taken."""
    student, teacher = pair([6, 4])
    teacher = replace(teacher, features=torch.zeros(10, 5).double())
    loss = build(num_query=100, k=100)
    assert [loss.graph(rows).neighbour.shape for rows in rows_of(student, teacher)] == [(6, 6), (4, 4)]


def test_n_and_k_are_clamped() -> None:
    student, teacher = pair([3, 1])
    assert build(num_query=6000, k=128)(student, teacher).isfinite()


@pytest.mark.parametrize('samples', [[0], [1]])
def test_nothing_to_compare_is_exactly_zero_with_a_live_graph(samples: list[int]) -> None:
    student, teacher = pair(samples)
    student.features.requires_grad_()
    loss = build(k=1)
    value = loss(student, teacher)
    value.backward()
    assert value.item() == 0.0
    assert student.features.grad.shape == student.features.shape
    assert all(p.grad is not None for p in loss.parameters())


def test_a_sample_without_voxels_is_left_out() -> None:
    student, teacher = pair([8])
    moved = teacher.coors.clone()
    moved[:, 0] = 3
    loss = build().eval()
    late = [replace(v, coors=moved) for v in (student, teacher)]
    assert loss(*late).item() == loss(student, teacher).item()


def test_weights_are_applied_and_carry_over_between_scales() -> None:
    counts = torch.tensor([32.0, 16.0, 8.0, 1.0])
    weight = build(tau=0.5).weight(counts)
    assert weight.sum().item() == pytest.approx(4.0)
    assert (weight[:-1] > weight[1:]).all()
    assert torch.allclose(build(tau=0.5).weight(counts / 1000), weight)
    assert build(reweighting='none').weight(counts).tolist() == [1.0] * 4
    published = build(reweighting='counts', tau=1e-2).weight(counts)
    assert published[0].item() == pytest.approx(4.0)
    assert build().weight(torch.zeros(3)).tolist() == [1.0] * 3


def test_maps_and_points_are_rows_whose_importance_is_the_teachers_largest_channel() -> None:
    torch.manual_seed(0)
    of_student, of_teacher = torch.randn(2, 3, 4, 6).double(), torch.randn(2, 5, 4, 6).double()
    loss = build().eval()
    as_map = loss(of_student, of_teacher).item()
    assert loss(of_student.flatten(2), of_teacher.flatten(2)).item() == pytest.approx(as_map, rel=1e-12)
    by_hand = []
    for i in range(2):
        rows = [value[i].flatten(1).t() for value in (of_student, of_teacher)]
        by_hand.append(
            loss(*(voxels(value, [24], of_teacher[i].flatten(1).amax(0)) for value in rows)).item()
        )
    assert as_map == pytest.approx(sum(by_hand) / 2, rel=1e-9)


@pytest.mark.parametrize('batch_size', [1, 3])
@pytest.mark.parametrize('pool', [False, True])
def test_compat_weighs_every_row_by_the_number_of_samples(batch_size: int, pool: bool) -> None:
    """The mean over samples times their number: their sum, each by the formula in float64."""
    generator = torch.Generator().manual_seed(batch_size)
    of_student, of_teacher = (
        torch.randn(batch_size, channels, 3, 4, generator=generator, dtype=torch.float64)
        for channels in (3, 5)
    )
    loss = build(reweighting='none', compat=True, pool=pool).eval()
    expected = 0.0
    for maps in zip(of_student, of_teacher, strict=True):
        student, teacher = (voxels(value.flatten(1).t(), [12], maps[1].flatten(1).amax(0)) for value in maps)
        expected += published(loss, student, teacher)
    assert loss(of_student, of_teacher).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize('reweighting', ['relative', 'counts'])
def test_compat_with_weights_is_a_clear_error(reweighting: str) -> None:
    with pytest.raises(ValueError, match="compat belongs to reweighting='none'"):
        build(reweighting=reweighting, compat=True)


def test_other_voxels_are_a_clear_error() -> None:
    student, teacher = pair([6])
    with pytest.raises(ValueError, match='the student has 6, the teacher 5 on the same grid'):
        build()(student, VoxelFeatures(teacher.features[:5], teacher.coors[:5], teacher.num_points[:5], GRID))
    with pytest.raises(ValueError, match='cannot be compared row by row'):
        build()(student, replace(teacher, coors=teacher.coors.flip(0)))
    coarse = replace(GRID, voxel_size=(0.8, 0.8, 4.0))
    with pytest.raises(ValueError, match=r"student's are 0\.4 x .*, the teacher's 0\.8 x "):
        build()(student, replace(teacher, grid=coarse))


def test_other_maps_are_a_clear_error() -> None:
    with pytest.raises(ValueError, match=r'tap both at the same stride'):
        build()(torch.zeros(1, 3, 4, 4), torch.zeros(1, 5, 8, 8))
    with pytest.raises(
        ValueError, match='two VoxelFeatures, two PointSets or two tensors, got Tensor and VoxelFeatures'
    ):
        build()(torch.zeros(1, 3, 4, 4), pair([4])[1])


@pytest.mark.parametrize('changes', [{'k': 0}, {'num_query': 0}, {'tau': 0.0}, {'reweighting': 'softmax'}])
def test_settings_without_sense_are_clear(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match='must be'):
        build(**changes)

"""Focal positions: by hand, against grid_sample, and what they may not depend on."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from projects.mmdet3d_plugin.distill.losses.focal_positions import COMPARE, FocalPositions, sampled_square
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.step import QueryReading, Sampling, Step
from tests.distill.readings import reading

L, B, Q, M, P = 3, 2, 6, 2, 4


def select(found: QueryReading, pick: Callable[[torch.Tensor], torch.Tensor], first: int = 0) -> QueryReading:
    """A reading with some of its samples and queries, from a layer on: ``pick`` gets (L, B, Q, ...) tensors."""
    looks = found.sampling(None)
    looks = Sampling(pick(looks.locations), pick(looks.weights), looks.projections[first:])
    return replace(found, boxes=pick(found.boxes), scores=pick(found.scores), samplings={'bev': looks})


def random_step(seed: int = 0, low: float = 0.0, dtype: torch.dtype = torch.float64) -> Step:
    """B samples of Q queries with confidences from ``low`` to 1."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(B, Q, 3, generator=generator, dtype=dtype) * (1 - low) + low
    boxes = torch.rand(B, Q, 7, generator=generator, dtype=dtype) * 10
    batch = {
        'gt_bboxes_3d': [boxes[i, :2].clone() for i in range(B)],
        'gt_labels_3d': [torch.tensor([0, 1])] * B,
    }
    return Step(batch, {}, {}, queries=reading(boxes, scores, P, M, L, seed))


def features(seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(B, 5, 8, 9, generator=generator, dtype=torch.float64) for _ in range(2))


def naive(student: torch.Tensor, teacher: torch.Tensor, found: QueryReading, compare: str) -> torch.Tensor:
    """The formula, one layer, sample and query after the other, sampled by grid_sample."""
    total, looks = student.new_zeros(()), found.sampling(None)
    for layer in range(L):
        for b in range(B):
            top = bottom = 0.0
            for q in range(Q):
                confidence, square = found.scores[layer, b, q].max(), 0.0
                for m in range(M):
                    where = looks.locations[layer, b, q, m, 0] * 2 - 1
                    both = [
                        F.grid_sample(f[b : b + 1], where[None, None], align_corners=False)[0, :, 0]
                        for f in (student, teacher)
                    ]
                    gap, weight = both[0] - both[1], looks.weights[layer, b, q, m, 0]
                    if compare == 'values':
                        gap = looks.projections[layer, 3 * m : 3 * m + 3] @ gap
                    if compare == 'positions':
                        square += (gap.square().mean(0) * weight).sum() / M
                    else:
                        square += (gap * weight).sum(1).square().mean() / M
                top, bottom = top + confidence * square, bottom + confidence
            total = total + top / bottom / (L * B)
    return total


@pytest.mark.parametrize('compare', COMPARE)
def test_equals_the_formula(compare: str) -> None:
    (student, teacher), step = features(), random_step()
    value = FocalPositions(compare=compare, min_score=0.0)(student, teacher, step=step)
    torch.testing.assert_close(value, naive(student, teacher, step.queries, compare))


def test_by_hand_on_one_cell() -> None:
    """One query looks at the centres of two cells with weights 1/4 and 3/4; its confidence cancels."""
    student, teacher = torch.zeros(1, 2, 1, 2), torch.tensor([[[[2.0, 0.0]], [[0.0, 4.0]]]])
    locations = torch.tensor([[0.25, 0.5], [0.75, 0.5]]).view(1, 1, 1, 1, 1, 2, 2)
    weights = torch.tensor([0.25, 0.75]).view(1, 1, 1, 1, 1, 2)
    projections = torch.tensor([[[3.0, 0.0], [0.0, 0.0]]])
    scores = torch.full((1, 1, 1, 1), 0.3)
    looks = {'bev': Sampling(locations, weights, projections)}
    found = QueryReading(torch.zeros(1, 1, 1, 7), scores, looks, None)
    step = Step({}, {}, {}, queries=found)
    value = FocalPositions()(student, teacher, step=step)
    assert value.item() == pytest.approx(0.25 * 4 / 2 + 0.75 * 16 / 2)
    # the sums are (0.25 * 2, 0.75 * 4) = (0.5, 3)
    value = FocalPositions(compare='aggregated')(student, teacher, step=step)
    assert value.item() == pytest.approx((0.25 + 9) / 2)
    # the head takes in three times the first channel and nothing of the second
    value = FocalPositions(compare='values')(student, teacher, step=step)
    assert value.item() == pytest.approx(1.5**2 / 2)


@pytest.mark.parametrize('compare', COMPARE)
def test_gradcheck(compare: str) -> None:
    (student, teacher), step = features(), random_step()
    loss = FocalPositions(compare=compare, min_score=0.0, top_k=2)
    student = student[:, :, :3, :3].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher[:, :, :3, :3], step=step), student)


@pytest.mark.parametrize('compare', COMPARE)
def test_batch_of_two_equals_two_singles(compare: str) -> None:
    (student, teacher), step = features(), random_step()
    loss, found = FocalPositions(min_score=0.5, compare=compare), step.queries
    singles = []
    for i in range(B):
        one = select(found, lambda x, i=i: x[:, i : i + 1])
        singles.append(
            loss(student[i : i + 1], teacher[i : i + 1], step=Step({}, {}, {}, queries=one)).item()
        )
    assert loss(student, teacher, step=step).item() == pytest.approx(sum(singles) / B)


def test_equal_features_and_blind_teachers_give_exact_zero_with_a_live_graph() -> None:
    student, teacher = features()
    student.requires_grad_()
    assert FocalPositions()(teacher.clone().requires_grad_(), teacher, step=random_step()).item() == 0.0
    blind = random_step()
    value = FocalPositions(min_score=1.0)(student, teacher, step=blind)
    value.backward()
    assert value.item() == 0.0
    assert not student.grad.any()
    nobody = Step({}, {}, {}, queries=reading(torch.zeros(0, Q, 7), torch.zeros(0, Q, 3)))
    assert FocalPositions()(student[:0], teacher[:0], step=nobody).item() == 0.0


@pytest.mark.parametrize('compare', COMPARE)
def test_only_the_best_queries_and_the_last_layers_count(compare: str) -> None:
    (student, teacher), step = features(), random_step()
    found = step.queries
    best = found.confidence[-1].topk(2, dim=1).indices
    picked = select(found, lambda x: torch.stack([x[1:, b, best[b]] for b in range(B)], dim=1), first=1)
    picked = Step({}, {}, {}, queries=picked)
    few = FocalPositions(top_k=2, layers=2, min_score=0.0, compare=compare)(student, teacher, step=step)
    all_of_them = FocalPositions(min_score=0.0, compare=compare)(student, teacher, step=picked)
    torch.testing.assert_close(few, all_of_them)


def test_gate_counts_queries_far_from_ground_truth_less() -> None:
    student, teacher = features()
    step = random_step()
    far = step.queries.boxes.clone()
    far[..., 0] += 1e4
    far[:, :, :2] = step.queries.boxes[:, :, :2]
    found = replace(step.queries, boxes=far)
    gated = FocalPositions(min_score=0.0, gate=1.0)(
        student, teacher, step=Step(step.batch, {}, {}, queries=found)
    )
    near = select(found, lambda x: x[:, :, :2])
    near_step = Step(step.batch, {}, {}, queries=near)
    torch.testing.assert_close(
        gated, FocalPositions(min_score=0.0, gate=1.0)(student, teacher, step=near_step)
    )


def test_generated_feature_of_another_term_is_compared() -> None:
    (student, teacher), step = features(), random_step()
    step.generated['bev_generation'] = teacher.clone()
    assert FocalPositions(generated_by='bev_generation')(student, teacher, step=step).item() == 0.0


def test_nothing_but_the_cells_that_it_says_it_reads_counts() -> None:
    (student, teacher), step = features(), random_step()
    loss = FocalPositions(top_k=2, min_score=0.0)
    cells = loss.cells_needed(step, teacher)
    assert 0 < cells.sum() < cells.numel()
    value = loss(student, teacher, step=step)
    noise = torch.where(cells[:, None], student, torch.randn_like(student))
    torch.testing.assert_close(loss(noise, teacher, step=step), value)
    student.requires_grad_()
    loss(student, teacher, step=step).backward()
    assert torch.equal(student.grad.abs().sum(1) > 0, cells)


def test_positions_outside_the_map_add_nothing() -> None:
    gap = torch.ones(1, 1, 4, 4)
    locations = torch.tensor([[0.5, 0.5], [-3.0, 0.5]]).view(1, 1, 1, 1, 1, 2, 2)
    weights = torch.full((1, 1, 1, 1, 1, 2), 0.5)
    assert sampled_square(gap, locations, weights, 'positions').item() == pytest.approx(0.5)


@pytest.mark.parametrize('compare', COMPARE)
def test_on_several_maps_each_query_is_compared_where_it_is_seen(compare: str) -> None:
    """Two cameras: what one shows of a query counts there and nowhere else, and so do the cells that are needed."""
    step = random_step()
    found = reading(step.queries.boxes[-1], step.queries.scores[-1], points=1, heads=1, layers=L, maps=2)
    looks = found.sampling(None)
    looks.weights[:, :, :, :, 1] = 0.0  # the second camera sees nothing
    step = Step(step.batch, {}, {}, queries=found)
    student, teacher = (
        torch.cat([f, f + 1]).unflatten(0, (2, B)).transpose(0, 1).flatten(0, 1) for f in features()
    )
    loss = FocalPositions(compare=compare, min_score=0.0)
    only = Sampling(looks.locations[:, :, :, :, :1], looks.weights[:, :, :, :, :1], looks.projections)
    alone = replace(found, samplings={'bev': only})
    value = loss(student, teacher, step=step)
    alone = loss(student[::2], teacher[::2], step=Step(step.batch, {}, {}, queries=alone))
    torch.testing.assert_close(value, alone)
    assert not loss.cells_needed(step, teacher)[1::2].any()
    noise = torch.randn_like(student)
    noise[::2] = student[::2]
    torch.testing.assert_close(loss(noise, teacher, step=step), value)


def test_a_feature_that_no_query_samples_is_refused() -> None:
    with pytest.raises(DistillError, match="do not sample 'neck'; they sample 'bev'"):
        FocalPositions(path='neck')(*features(), step=random_step())


def test_mistakes_are_clear() -> None:
    with pytest.raises(ValueError, match='compare must be one of'):
        FocalPositions(compare='heads')
    with pytest.raises(ValueError, match='layers must be at least 1'):
        FocalPositions(layers=0)
    with pytest.raises(DistillError, match='no distillation head'):
        FocalPositions()(*features(), step=Step({}, {}, {}))

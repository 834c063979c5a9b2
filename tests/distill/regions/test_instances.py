"""Whose boxes are the instances, and how far the teacher agrees with ground truth."""

import math

import pytest
import torch

from projects.mmdet3d_plugin.distill.regions.instances import (
    InstanceSource,
    agreement,
    best_queries,
    query_agreement,
)
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.step import Step
from tests.distill.readings import reading

CPU = torch.device('cpu')


def step() -> Step:
    """Two samples; ground truth: a class-0 box at the origin, a class-1 box at (10, 0); one class-1 at (5, 5)."""
    boxes = torch.zeros(2, 3, 7)
    boxes[..., 3:6] = 2.0
    boxes[0, :, 0] = torch.tensor([0.0, 12.0, 30.0])
    boxes[1, :, 1] = torch.tensor([5.0, 0.0, 40.0])
    scores = torch.tensor([[[0.8, 0.1], [0.2, 0.6], [0.9, 0.0]], [[0.3, 0.05], [0.0, 0.08], [0.0, 0.5]]])
    gt = [torch.zeros(2, 7), torch.zeros(1, 7)]
    gt[0][1, 0], gt[1][0, :2] = 10.0, 5.0
    labels = [torch.tensor([0, 1]), torch.tensor([1])]
    return Step(
        {'gt_bboxes_3d': gt, 'gt_labels_3d': labels}, {}, {}, queries=reading(boxes, scores, layers=2)
    )


def test_ground_truth_needs_no_queries() -> None:
    source = InstanceSource()
    found = source(Step(step().batch, {}, {}), CPU)
    assert not source.needs_queries
    assert found.sample.tolist() == [0, 0, 1]
    assert found.boxes[:, 0].tolist() == [0.0, 10.0, 5.0]
    assert found.weight.tolist() == [1.0, 1.0, 1.0]


def test_best_queries_by_score_and_threshold() -> None:
    sample, query = best_queries(step().queries, top_k=2, min_score=0.4)
    assert list(zip(sample.tolist(), query.tolist(), strict=True)) == [(0, 2), (0, 0), (1, 2)]
    sample, query = best_queries(step().queries, top_k=99, min_score=0.0)
    assert sample.tolist() == [0, 0, 0, 1, 1, 1]


def test_queries_and_both() -> None:
    queries = InstanceSource('queries', top_k=1)(step(), CPU)
    assert queries.sample.tolist() == [0, 1]
    assert queries.boxes[:, :2].tolist() == [[30.0, 0.0], [0.0, 40.0]]
    both = InstanceSource('both', top_k=1)(step(), CPU)
    assert both.sample.tolist() == [0, 0, 1, 0, 1]
    assert both.boxes[-1].tolist() == queries.boxes[-1].tolist()


def test_positives_are_what_the_host_matches() -> None:
    found = InstanceSource('positives')(step(), CPU)
    assert found.sample.tolist() == [0, 0, 1]
    assert found.boxes[:, 0].tolist() == [0.0, 12.0, 0.0]


def test_agreement_by_hand() -> None:
    """Right class and place: its probability; two metres off at a scale of 2 m: 1 / e of it; wrong class: little."""
    value = agreement(step(), distance=2.0)
    assert value.shape == (3, 3)
    assert value[0, 0].item() == pytest.approx(0.8)
    assert value[1, 1].item() == pytest.approx(0.6 / math.e)
    assert value[1, 0].item() == pytest.approx(0.1 * math.exp(-5))
    assert value[2, 0].item() == pytest.approx(0.05 * math.exp(-2.5))


def test_gate_weighs_instances_by_agreement() -> None:
    found = InstanceSource('both', top_k=3, min_score=0.5, gate=2.0)(step(), CPU)
    expected = [0.8, 0.6 / math.e, 0.05 * math.exp(-2.5)]
    assert found.weight[:3].tolist() == pytest.approx(expected)
    # queries 2, 0, 1 of sample 0 and query 2 of sample 1, best first
    scores = [0.9 * math.exp(-15), 0.8, 0.6 / math.e, 0.5 * math.hypot(0, 0)]
    scores[3] = 0.5 * math.exp(-math.hypot(5, 35) / 2)
    assert found.weight[3:].tolist() == pytest.approx(scores, rel=1e-4)


def test_without_ground_truth_no_query_agrees() -> None:
    one = step()
    one.batch = {
        'gt_bboxes_3d': [torch.zeros(0, 7)] * 2,
        'gt_labels_3d': [torch.zeros(0, dtype=torch.long)] * 2,
    }
    assert query_agreement(one, 2.0).tolist() == [[0.0] * 3] * 2
    assert len(InstanceSource('gt', gate=2.0)(one, CPU).boxes) == 0
    assert len(InstanceSource('positives')(one, CPU).boxes) == 0


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(source='sometimes'), 'source must be one of'),
        (dict(top_k=0), 'top_k must be >= 1'),
        (dict(min_score=2.0), 'min_score in'),
        (dict(gate=0.0), 'gate must be a positive distance'),
    ],
)
def test_mistakes_are_clear(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InstanceSource(**arguments)


def test_queries_without_a_head_are_a_clear_error() -> None:
    with pytest.raises(DistillError, match=r"head=dict\(init='teacher'\)"):
        InstanceSource('queries')(Step(step().batch, {}, {}), CPU)

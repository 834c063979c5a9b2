"""Boxes to be drawn."""

import numpy as np
import pytest

from projects.mmdet3d_plugin.visualization.box_set import BoxSet, present_classes

CLASSES = ['car', 'truck', 'pedestrian']


def box_set(labels: list[int], scores: list[float] | None = None) -> BoxSet:
    given = None if scores is None else np.array(scores)
    return BoxSet(np.zeros((len(labels), 9)), np.array(labels, dtype=int), given)


def test_above_keeps_scored_boxes_over_the_threshold() -> None:
    kept = box_set([0, 1, 2], [0.9, 0.2, 0.3]).above(0.3)
    assert kept.labels.tolist() == [0, 2]
    assert kept.scores.tolist() == [0.9, 0.3]


def test_true_boxes_pass_any_threshold() -> None:
    assert len(box_set([0, 1]).above(0.99)) == 2


def test_present_classes_are_in_class_order() -> None:
    assert present_classes([box_set([2]), None, box_set([0, 2])], CLASSES) == ['car', 'pedestrian']


def test_wrong_shape_names_the_shapes() -> None:
    with pytest.raises(ValueError, match=r'\(n, 7\+\).*\(2, 5\)'):
        BoxSet(np.zeros((2, 5)), np.zeros(2, dtype=int))


@pytest.mark.parametrize(('column', 'value'), [(0, np.nan), (3, np.inf), (6, np.nan)])
def test_boxes_that_are_not_finite_are_counted_and_the_first_is_named(column: int, value: float) -> None:
    boxes = np.ones((3, 9))
    boxes[1:, column] = value
    with pytest.raises(ValueError, match=r'2 of 3 boxes cannot be drawn.*the first is'):
        BoxSet(boxes, np.zeros(3, dtype=int))
    with pytest.raises(ValueError, match='score nan'):
        BoxSet(np.ones((1, 7)), np.zeros(1, dtype=int), np.array([np.nan]))


def test_velocities_may_be_unknown() -> None:
    assert len(BoxSet(np.array([[0, 0, 0, 4, 2, 2, 0, np.nan, np.nan]]), np.zeros(1, dtype=int))) == 1

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

"""What can go wrong when results are brought together; the rest is in test_parallel.py and test_test.py."""

import pytest
import torch
from mmdet3d.core.bbox import LiDARInstance3DBoxes

from projects.mmdet3d_plugin.engine.inference import gather_results, to_cpu


def test_results_are_put_in_order() -> None:
    assert gather_results([(2, 'c'), (0, 'a'), (1, 'b')], 3) == ['a', 'b', 'c']


def test_a_sample_without_result_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r'2 results for 3 samples; first samples without a result: \[1\]'):
        gather_results([(2, 'c'), (0, 'a')], 3)


def test_boxes_and_tensors_come_to_the_cpu_without_graph() -> None:
    scores = torch.ones(2, requires_grad=True) * 2
    boxes = LiDARInstance3DBoxes(torch.zeros(2, 9), box_dim=9)
    result = to_cpu(dict(boxes_3d=boxes, scores_3d=scores, names=['a'], pair=(scores, 1)))
    assert not result['scores_3d'].requires_grad
    assert not result['pair'][0].requires_grad
    assert result['boxes_3d'].tensor.shape == (2, 9)
    assert result['names'] == ['a']

"""What can go wrong when results are brought together; the rest is in test_parallel.py and test_test.py."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmcv import Config
from mmdet3d.core.bbox import LiDARInstance3DBoxes
from torch.utils.data import DataLoader

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.engine.inference import gather_results, run_inference, to_cpu
from tests.engine.toy import ONE_PROCESS
from tests.lidar_factories import centerpoint_config, one_view, pillar_config


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


@pytest.mark.parametrize('config', [pillar_config, centerpoint_config])
def test_scores_that_are_not_finite_are_an_error_and_not_nothing_found(
    config: Callable[..., dict[str, Any]],
) -> None:
    """NaN fails every threshold: without a look at the head's outputs, such a frame would count as empty."""
    model = build_model(Config(dict(model=config())).model)
    batches = [one_view([0]), one_view([1])]
    loader = DataLoader(batches, batch_size=1, collate_fn=lambda samples: samples[0])
    assert len(run_inference(model, loader, ONE_PROCESS)) == 2
    batches[1]['points'][0][0][5, 3] = torch.nan
    with pytest.raises(
        UserError, match='Head predicts what is not finite for sample 1: the checkpoint or what'
    ):
        run_inference(model, loader, ONE_PROCESS)
    torch.nn.init.constant_(next(model.parameters()), torch.inf)
    with pytest.raises(UserError, match='Head predicts what is not finite for sample 0'):
        run_inference(model, loader, ONE_PROCESS)
    assert not any(module._forward_hooks for module in model.modules())

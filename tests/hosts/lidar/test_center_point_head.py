"""The centre head starts from the values that mmdet3d means it to have."""

import torch
from mmcv import Config
from mmdet3d.core.bbox import LiDARInstance3DBoxes

from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.hosts.lidar.center_point_head import CenterPointHead
from tests.lidar_factories import centerpoint_config


def test_heatmaps_start_at_a_tenth_in_every_task() -> None:
    model = build_model(Config(dict(model=centerpoint_config())).model)
    model.init_weights()
    heads = model.pts_bbox_head.task_heads
    assert len(heads) == 2
    for task in heads:
        probability = torch.sigmoid(task.heatmap[-1].bias)
        torch.testing.assert_close(probability, torch.full_like(probability, 0.1), atol=0.002, rtol=0)


def test_first_heatmaps_are_a_tenth_nearly_everywhere() -> None:
    """Not only on average: the focal loss grows with the square of a wrong probability."""
    torch.manual_seed(0)
    model = build_model(Config(dict(model=centerpoint_config())).model)
    model.init_weights()
    model.train()
    for task in model.pts_bbox_head([torch.randn(2, 16, 12, 12)]):
        probability = task[0]['heatmap'].sigmoid()
        assert probability.quantile(0.05) > 0.05
        assert probability.quantile(0.95) < 0.3


def test_weights_of_mmdet3ds_own_head_fit() -> None:
    cfg = centerpoint_config()
    ours = build_model(Config(dict(model=cfg)).model)
    cfg = centerpoint_config()
    cfg['pts_bbox_head']['type'] = 'CenterHead'
    theirs = build_model(Config(dict(model=cfg)).model)
    assert isinstance(ours.pts_bbox_head, CenterPointHead)
    assert ours.state_dict().keys() == theirs.state_dict().keys()


def test_one_candidate_without_a_threshold_is_one_box() -> None:
    head = build_model(Config(dict(model=centerpoint_config())).model).pts_bbox_head
    head.test_cfg['score_threshold'] = 0.0
    meta = dict(box_type_3d=LiDARInstance3DBoxes)
    for count in (0, 1, 2):
        boxes = torch.tensor([[3.0, 0, -1, 1, 1, 1, 0, 0, 0]]) + torch.tensor([0.0, 2]).repeat(9, 1).T[:count]
        boxes = boxes[:, : head.bbox_coder.code_size]
        (found,) = head.get_task_detections(
            1, [torch.full((count,), 0.5)], [boxes], [torch.zeros(count)], [meta]
        )
        assert len(found['bboxes']) == len(found['scores']) == count

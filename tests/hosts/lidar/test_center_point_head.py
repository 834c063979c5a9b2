"""The centre head starts from the values that mmdet3d means it to have."""

import pytest
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


@pytest.mark.parametrize('kind', ['CenterHead', 'CenterPointHead'])
def test_cells_in_ignored_boxes_are_no_background(kind: str) -> None:
    """Those of objects' centres count all the same, and what boxes should be is not touched."""
    cfg = centerpoint_config()
    cfg['pts_bbox_head']['type'] = kind
    head = build_model(Config(dict(model=cfg)).model).pts_bbox_head
    cell = head.train_cfg['voxel_size'][0] * head.train_cfg['out_size_factor']
    x0, y0 = head.train_cfg['point_cloud_range'][:2]
    size = int(head.train_cfg['grid_size'][0]) // head.train_cfg['out_size_factor']

    def box(column: float, row: float, length: float, width: float, yaw: float = 0.0) -> list[float]:
        """Columns and rows of cells to metres."""
        return [x0 + column * cell, y0 + row * cell, -1, length * cell, width * cell, 1.5, yaw]

    truth = [torch.tensor([[*box(4.5, 3.5, 2, 1), 0, 0]]), torch.zeros(0, 9)]
    labels = [torch.tensor([1]), torch.zeros(0).long()]
    # over the object; turned by a quarter; smaller than a cell and between the middles of cells; elsewhere; nowhere
    unsure = [
        torch.tensor([box(4, 3.5, 4, 1), box(9.5, 8.5, 1.2, 4.2, torch.pi / 2), box(1.9, 9.9, 0.1, 0.1)]),
        torch.tensor([box(500, 500, 9, 9)]),
    ]
    left_out = torch.zeros(2, 3, size, size, dtype=torch.bool)
    left_out[0, :, 3, 2:6] = True  # middles at 2.5 to 5.5 of 2 to 6
    left_out[0, 1, 3, 4] = False
    left_out[0, :, 8, 7:12] = True
    left_out[0, :, 9, 1] = True
    torch.manual_seed(0)
    feature = torch.randn(2, 16, size, size)

    def learn(*ignored: object) -> tuple[dict, list[torch.Tensor]]:
        outputs = head([feature])
        logits = [task[0]['heatmap'] for task in outputs]
        inputs = [[{**task[0], 'heatmap': z.clone()}] for task, z in zip(outputs, logits, strict=True)]
        boxes = [LiDARInstance3DBoxes(rows, box_dim=9) for rows in truth]
        losses = head.loss(boxes, labels, inputs, *ignored)
        return losses, torch.autograd.grad(sum(losses.values()), logits)

    plain, slopes = learn()
    for nothing in (None, [torch.zeros(0, 7)] * 2):
        again, same = learn(nothing)
        assert plain == again
        assert all(map(torch.equal, slopes, same))
    losses, thinned = learn(unsure)
    for before, after, mine in zip(slopes, thinned, left_out.split([2, 1], 1), strict=True):
        assert (before[mine] != 0).all()
        assert (after[mine] == 0).all()
        assert torch.equal(after[~mine], before[~mine])
    for name in plain:
        assert losses[name] == plain[name] if 'bbox' in name else losses[name] < plain[name]


def test_an_unknown_velocity_teaches_nothing() -> None:
    """The loss and every gradient but that of the velocity are those of a known one; the velocity's is zero."""
    torch.manual_seed(0)
    head = build_model(Config(dict(model=centerpoint_config())).model).pts_bbox_head
    feature, slopes = torch.randn(1, 16, 16, 16), []
    for velocity in (1.5, torch.nan):
        outputs = head([feature])
        outputs = [
            [{key: value.detach().requires_grad_() for key, value in task[0].items()}] for task in outputs
        ]
        inputs = [[{key: value.clone() for key, value in task[0].items()}] for task in outputs]
        box = torch.tensor([[3.0, 0, -1, 2, 1, 1.5, 0.3, velocity, velocity]])
        losses = head.loss([LiDARInstance3DBoxes(box, box_dim=9)], [torch.tensor([0])], inputs)
        assert all(loss.isfinite() for loss in losses.values())
        leaves = [leaf for task in outputs for leaf in task[0].values()]
        slopes.append(torch.autograd.grad(sum(losses.values()), leaves))
    names = [name for task in outputs for name in task[0]]
    for name, known, unknown in zip(names, *slopes, strict=True):
        assert torch.equal(unknown, known if name != 'vel' else torch.zeros_like(known))
    assert any(known.any() for name, known in zip(names, slopes[0], strict=True) if name == 'vel')

"""The second stage of full width on a real KITTI frame."""

from pathlib import Path

import torch
from mmdet3d.core.bbox import Box3DMode, LiDARInstance3DBoxes

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.models import build_model
from tests.hosts.two_stage.kitti_frames import real_frame
from tests.lidar_factories import total

NEAR = [0, -12.8, -3, 25.6, 12.8, 1]
CAR = 2


def test_voxel_rcnn_takes_a_step(kitti_five_frames: Path) -> None:
    """All weights learn, on an eighth of the range so that it takes seconds; six cars lie in it or near it."""
    cfg = load_config('projects/configs/lidar/voxel_rcnn_kitti.py').model
    cfg.voxel_layer.point_cloud_range = cfg.roi_head.features[0].pc_range = NEAR
    cfg.middle_encoder.sparse_shape = [41, 512, 512]
    heights = [box[2] for box in cfg.bbox_head.anchor_generator.ranges]
    cfg.bbox_head.anchor_generator.ranges = [[*NEAR[:2], z, *NEAR[3:5], z] for z in heights]
    cfg.roi_head.train_proposals.update(before=1000, kept=64)
    cfg.roi_head.sampler.update(number=32, shifted=2)
    torch.manual_seed(0)
    model = build_model(cfg).train()
    model.init_weights()
    points, boxes = real_frame(kitti_five_frames, '000008')
    boxes = boxes[boxes[:, 0] < 25]
    assert len(boxes) >= 4
    losses = model.forward_train(
        points=[points],
        img_metas=[dict(box_type_3d=LiDARInstance3DBoxes, box_mode_3d=Box3DMode.LIDAR)],
        gt_bboxes_3d=[LiDARInstance3DBoxes(boxes)],
        gt_labels_3d=[torch.full((len(boxes),), CAR)],
    )
    assert all(losses[f'loss_rcnn_{name}'] > 0 for name in ('iou', 'box', 'corner'))
    total(losses).backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())
    first = model.middle_encoder.conv_input[0].weight
    assert first.grad.any()

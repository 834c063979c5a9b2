"""BEVDepth as a detector: batches, key frames, memory, frames, and the loss of depth."""

import copy
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet3d.core.bbox import LiDARInstance3DBoxes
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.geometry import lidar_to_image, planar_pose
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.datasets.nuscenes_rig import LIDAR_TO_EGO, nuscenes_rig
from projects.mmdet3d_plugin.hosts.bevdepth.lift_splat_detector import _moved
from tests.hosts.bevdepth.test_parity import IMAGE, small_config


@cache
def detector(frames: int = 2, frame: str = 'lidar') -> nn.Module:
    """A small BEVDepth with random weights that differ from zero everywhere."""
    cfg = small_config(frame=frame)
    cfg.model.num_frames = frames
    cfg.model.head.trunk.in_channels = cfg.model.head.neck.in_channels[0] = 16 * frames
    torch.manual_seed(0)
    model = build_model(cfg.model)
    model.init_weights()
    for parameter in model.head.task_heads.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def meta(time: int, num_cams: int = 6) -> dict[str, Any]:
    """Calibration of a car that drives ahead, 2 m between frames."""
    intrinsic, cam2lidar = nuscenes_rig(num_cams)
    ida = np.tile(np.array([[0.12, 0, 0], [0, 0.12, -44], [0, 0, 1]]), (num_cams, 1, 1))
    seen = ida @ intrinsic
    return dict(
        cam_intrinsic=seen,
        cam2lidar=cam2lidar,
        ida=ida,
        lidar2img=lidar_to_image(seen, cam2lidar),
        lidar2ego=LIDAR_TO_EGO,
        ego2global=planar_pose(2.0 * time, 0.3 * time, 0.02 * time),
        sample_token=str(time),
        prev_token=str(time - 1),
        prev_bev_exists=time > 0,
        box_type_3d=LiDARInstance3DBoxes,
    )


def images(batch: int, frames: int, num_cams: int = 6) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(batch, frames, num_cams, 3, *IMAGE)


def metas(batch: int, frames: int, num_cams: int = 6) -> list[list[dict[str, Any]]]:
    return [[meta(7 * b + t, num_cams) for t in range(frames)] for b in range(batch)]


def assert_same(found: list[dict[str, Any]], expected: list[dict[str, Any]], atol: float = 1e-4) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours['scores_3d'], theirs['scores_3d'], rtol=0, atol=atol)
        torch.testing.assert_close(ours['boxes_3d'].tensor, theirs['boxes_3d'].tensor, rtol=0, atol=atol * 10)


@torch.no_grad()
def test_a_batch_of_two_equals_two_of_one_and_any_number_of_cameras_works() -> None:
    img, queues, model = images(2, 2), metas(2, 2), detector()
    both = model.forward_test(img, queues)
    assert len(both[0]['scores_3d']) > 0
    assert_same(both, [model.forward_test(img[i : i + 1], queues[i : i + 1])[0] for i in range(2)])
    for num_cams in (1, 5):
        outs = model.predict_raw(images(1, 2, num_cams), metas(1, 2, num_cams))
        assert outs['depth'].shape == (num_cams, 28, 4, 12)


@torch.no_grad()
def test_a_memory_gives_what_a_queue_gives_and_nothing_stays_on_the_model() -> None:
    model, img, queues = detector(), images(1, 3), metas(1, 3)
    before = {name: copy.copy(module.__dict__) for name, module in model.named_modules()}
    memory = model.new_memory()
    alone = [model.forward_test(img[:, t : t + 1], [[queues[0][t]]], memory)[0] for t in range(3)]
    queue = model.forward_test(img[:, 1:], [queues[0][1:]])
    assert_same([alone[2]], queue)
    fresh = model.forward_test(img[:, 2:], [queues[0][2:]])
    assert (fresh[0]['scores_3d'][:20] - queue[0]['scores_3d'][:20]).abs().max() > 1e-4
    stranger = [[{**queues[0][2], 'prev_token': 'of another scene'}]]
    assert_same(model.forward_test(img[:, 2:], stranger, memory), fresh)
    assert detector(1).new_memory() is None
    assert before == {name: module.__dict__ for name, module in model.named_modules()}


def test_images_without_a_camera_each_are_refused() -> None:
    model = detector()
    with pytest.raises(UserError, match='6 images, but the calibration of 5 cameras'):
        model.predict_raw(images(1, 1), metas(1, 1, 5))
    with pytest.raises(UserError, match=r'\[5, 6\] cameras'):
        model.predict_raw(images(2, 1), [*metas(1, 1, 5), *metas(1, 1, 6)])


@torch.no_grad()
def test_a_stream_that_begins_leaves_the_other_its_history() -> None:
    """Three frames of two streams; in the second or third frame the second stream turns to another scene."""
    model = detector(3)
    for begins in (1, 2):
        img, queues = images(2, 3), metas(2, 3)
        queues[1][begins] = {**queues[1][begins], 'prev_token': 'none'}
        together, memory = [], model.new_memory()
        for t in range(3):
            together = model.forward_test(img[:, t : t + 1], [[queue[t]] for queue in queues], memory)
        for i in range(2):
            memory = model.new_memory()
            for t in range(3):
                alone = model.forward_test(img[i : i + 1, t : t + 1], [[queues[i][t]]], memory)
            assert_same(together[i : i + 1], alone)


@torch.no_grad()
def test_an_earlier_frame_lies_where_the_present_one_sees_it() -> None:
    """Standing still, the map of the frame before is the present one; having driven 6.4 m, two cells away."""
    model, img, still = detector(), images(1, 1), meta(1)
    lidar2global = still['ego2global'] @ LIDAR_TO_EGO
    behind = lidar2global @ planar_pose(0, -6.4, 0) @ np.linalg.inv(LIDAR_TO_EGO)
    present = model.extract_feat(img[:, 0], [still])[0]
    torch.testing.assert_close(model.history_bev(img, [[still]], [still]), present, rtol=0, atol=1e-5)
    moved = model.history_bev(img, [[{**still, 'ego2global': behind}]], [still])  # cells of 3.2 m, along y
    torch.testing.assert_close(moved[:, :, :-2], present[:, :, 2:], rtol=0, atol=1e-3)


@torch.no_grad()
def test_ego_and_lidar_frame_agree_where_both_are_one() -> None:
    img, same = images(1, 2), [[{**m, 'lidar2ego': np.eye(4)} for m in metas(1, 2)[0]]]
    lidar, ego = detector(), detector(frame='ego')
    ego.load_state_dict(lidar.state_dict())
    assert_same(ego.forward_test(img, same), lidar.forward_test(img, same))
    boxes = LiDARInstance3DBoxes(torch.tensor([[5.0, 2, -1, 4, 2, 1.5, 0.3, 3, 1]]), box_dim=9)
    there = ego.to_bev_frame([boxes], [meta(0)])[0]
    assert there.tensor[0, 0] == pytest.approx(2 + 0.94, abs=0.2)  # x of the ego frame is y of the LiDAR's
    assert there.tensor[0, 7] == pytest.approx(1, abs=0.1)
    found = _moved(there, np.linalg.inv(meta(0)['lidar2ego']), LiDARInstance3DBoxes)
    torch.testing.assert_close(found.tensor, boxes.tensor, rtol=0, atol=0.05)  # but for the tilt of the LiDAR


CLOUD = torch.tensor([[3.0, 12, -1], [-4, 20, 0], [10, -9, -1], [-12, 3, 0.5]])


def training_batch() -> dict[str, Any]:
    """Two samples: a box in range and one far outside; none."""
    boxes = LiDARInstance3DBoxes(
        torch.tensor([[5.0, 9, -1, 4, 2, 1.5, 0.3, 3, 1], [500.0, 0, 0, 1, 1, 1, 0, 0, 0]]), box_dim=9
    )
    none = LiDARInstance3DBoxes(torch.zeros(0, 9), box_dim=9)
    truth = dict(
        gt_bboxes_3d=[boxes, none], gt_labels_3d=[torch.tensor([0, 8]), torch.zeros(0, dtype=torch.long)]
    )
    return dict(img=images(2, 2), img_metas=metas(2, 2), **truth, points=[CLOUD, CLOUD])


def test_losses_are_finite_and_reach_every_weight() -> None:
    model = copy.deepcopy(detector()).train()
    none = LiDARInstance3DBoxes(torch.zeros(0, 9), box_dim=9)
    losses = model.forward_train(**training_batch())
    assert losses['loss_depth'] > 0
    assert 0 < losses['depth_labelled'] < 1
    total = sum(losses.values())
    assert total.isfinite()
    total.backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    empty = model.forward_train(
        images(1, 2), metas(1, 2), [none], [torch.zeros(0, dtype=torch.long)], points=[CLOUD[:0]]
    )
    assert empty['loss_depth'] == 0
    assert empty['depth_labelled'] == 0
    assert empty['loss_depth'].requires_grad
    with pytest.raises(UserError, match='LoadPoints') as error:
        model.forward_train(images(1, 2), metas(1, 2), [none], [torch.zeros(0, dtype=torch.long)])
    assert all(Path(file).is_file() for file in re.findall(r'projects/[\w/]+\.py', str(error.value)))


def test_broken_inputs_get_one_clear_sentence() -> None:
    model, queue = detector(), metas(1, 2)
    with pytest.raises(UserError, match='cam2lidar'):
        model.forward_test(
            images(1, 2), [[{k: v for k, v in m.items() if k != 'cam2lidar'} for m in queue[0]]]
        )
    broken = [[{**m, 'cam_intrinsic': m['cam_intrinsic'] * np.nan} for m in queue[0]]]
    with pytest.raises(UserError, match='cam_intrinsic'):
        model.forward_test(images(1, 2), broken)
    with pytest.raises(UserError, match=r'built for images of 192x64 .* stride of 16'):
        model.forward_test(torch.zeros(1, 2, 6, 3, 96, 192), queue)
    with pytest.raises(UserError, match='frame'):
        build_model(small_config(frame='camera').model)
    backwards = small_config().model
    backwards.backbone.lift_splat.depth_range = (29.0, 1.0, 1.0)
    with pytest.raises(UserError, match=r'depth_range .* \(29\.0, 1\.0, 1\.0\)'):
        build_model(backwards)

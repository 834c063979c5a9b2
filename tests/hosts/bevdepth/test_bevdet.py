"""The BEVDet family: state-dict keys of the originals, batches, key frames, short names, losses."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmcv import Config
from torch import nn

from projects.mmdet3d_plugin.common.config_checks.check import check_host
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.distill.hosts.adapter import adapter_for
from projects.mmdet3d_plugin.distill.taps import Recorder
from projects.mmdet3d_plugin.hosts.bevdepth.bevdet import camera_numbers
from projects.mmdet3d_plugin.hosts.bevdepth.camera_matrices import CameraMatrices
from tests.hosts.bevdepth.test_bevdepth import images, meta, metas, training_batch
from tests.hosts.bevdepth.test_parity import IMAGE

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = {'bevdepth-r50': 'bevdet_bevdepth_r50', 'bevdepth4d-r50': 'bevdet_bevdepth4d_r50'}


def small_config(**model: Any) -> Config:
    """Two key frames, ResNet-18 of width 16, 28 bins of 2 m, BEV of 32x32 cells."""
    cfg = Config.fromfile(str(ROOT / 'projects/configs/_base_/models/bevdet.py'))
    coarse = dict(voxel_size=[0.8, 0.8, 8])
    lift = dict(image_size=IMAGE, cell=3.2, depth_range=(2.0, 58.0, 2.0))
    small = dict(
        num_frames=2,
        img_view_transformer=dict(lift_splat=lift, in_channels=32, context_channels=16, depth_channels=16),
        img_backbone=dict(depth=18, stem_channels=16, base_channels=16, init_cfg=None, with_cp=False),
        img_neck=dict(in_channels=[64, 128], out_channels=32),
        bev_channels=[16, 16, 32],
        pts_bbox_head=dict(in_channels=32, bbox_coder=coarse),
        train_cfg=dict(grid_size=[128, 128, 1], **coarse),
        test_cfg=coarse,
    )
    cfg.merge_from_dict(dict(model=small | model))
    return cfg


@pytest.fixture(scope='module')
def model() -> nn.Module:
    """Random weights that differ from zero everywhere."""
    torch.manual_seed(0)
    model = build_model(small_config().model)
    model.init_weights()
    for parameter in model.pts_bbox_head.task_heads.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.mark.parametrize('name', CONFIGS)
def test_keys_and_shapes_equal_the_original(name: str, parity: Path) -> None:
    expected = json.loads((parity.parents[1] / 'reference/manifest_bevdet.json').read_text())[name]
    cfg = Config.fromfile(str(ROOT / f'projects/configs/bevdepth/{CONFIGS[name]}.py'))
    with torch.device('meta'):
        state = build_model(cfg.model).state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == expected


@torch.no_grad()
def test_a_batch_of_two_equals_two_of_one_and_any_number_of_cameras_works(model: nn.Module) -> None:
    img, queues = images(2, 2), metas(2, 2)
    both = model.predict_raw(img, queues)
    for i in range(2):
        one = model.predict_raw(img[i : i + 1], queues[i : i + 1])
        for (ours,), (theirs,) in zip(one['heads'], both['heads'], strict=True):
            torch.testing.assert_close(ours['heatmap'][0], theirs['heatmap'][i], rtol=0, atol=1e-4)
    assert model.predict_raw(images(1, 2, 1), metas(1, 2, 1))['depth'].shape == (1, 28, 4, 12)


@torch.no_grad()
def test_a_memory_gives_what_a_queue_gives(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(model, 'get_bboxes', lambda heads, _: read.append(heads[0][0]['reg']) or [])
    img, queues = images(1, 2), metas(1, 2)
    memory = model.new_memory()
    for t in range(2):
        model.forward_test(img[:, t : t + 1], [[queues[0][t]]], memory)
    model.forward_test(img, queues)
    first, streamed, queued = read
    torch.testing.assert_close(streamed, queued, rtol=0, atol=1e-4)
    assert (first - queued).abs().max() > 1e-3


def test_the_camera_is_told_as_the_original_tells_it() -> None:
    """``K``, what was done to pixels, its shift, and where the camera stands, row by row."""
    frame = meta(0)
    numbers = camera_numbers(CameraMatrices.of([frame]))[0, 2]
    ida, pose = torch.tensor(frame['ida'][2]), torch.tensor(frame['cam2lidar'][2])
    torch.testing.assert_close(
        numbers[:9].view(3, 3), torch.linalg.solve(ida, torch.tensor(frame['cam_intrinsic'][2]))
    )
    torch.testing.assert_close(numbers[9:18].view(3, 3), torch.diag(torch.diagonal(ida)))
    torch.testing.assert_close(numbers[18:21], torch.tensor([0.0, -44, 0]).double())
    torch.testing.assert_close(numbers[21:].view(4, 3), torch.cat([pose[:3, :3], pose[None, :3, 3]]))


def test_short_names_are_what_they_say_and_every_weight_learns(model: nn.Module) -> None:
    adapter = adapter_for(model)
    aliases = adapter.aliases(model)
    taps = [tap for group in aliases.values() for tap in group]
    batch = adapter.prepare(model.train(), training_batch())
    with Recorder(model, taps) as recorder:
        losses = adapter.losses(model, batch)
    records = recorder.pop()
    sum(losses.values()).backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    for tap in (tap for name, group in aliases.items() if name != 'heads' for tap in group):
        feature = tap.convert(records[tap.path])
        assert (feature.shape[1], tuple(feature.shape[-2:])) == (tap.channels, tap.size), tap.path
    assert len(aliases['heads'][0].convert(records['pts_bbox_head'])) == 6
    queries = adapter.fresh_query_head(model, num_query=5, num_layers=1, num_heads=4)
    assert queries.transformer.embed_dims == 32


def test_numbers_that_disagree_are_named(model: nn.Module) -> None:
    cfg = Config.fromfile(str(ROOT / 'projects/configs/bevdepth/bevdet_bevdepth_r50.py'))
    check_host(cfg)
    cfg.model.img_neck.out_channels = 16
    with pytest.raises(UserError, match=r'img_view_transformer\.in_channels'):
        check_host(cfg)
    other = {'img_view_transformer.dx': torch.tensor([1.6, 3.2, 20.0])}
    with pytest.raises(UserError, match=r'pc_range and cell of model\.img_view_transformer'):
        model.load_state_dict(model.state_dict() | other)

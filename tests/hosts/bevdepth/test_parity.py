"""BEVDepth against what the original computed on the real keyframe, at a small size, in float64."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmcv import Config
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.hosts.bevdepth.camera_matrices import CameraMatrices
from projects.mmdet3d_plugin.hosts.bevdepth.lift_splat_backbone import Lifted

BASE = Path(__file__).resolve().parents[3] / 'projects/configs/_base_/models/bevdepth.py'
IMAGE, CELL, BINS = (64, 192), 3.2, (2.0, 58.0, 2.0)


def small_config(**model: Any) -> Config:
    """The parity file's model: two key frames, ResNet-18 of width 16, 28 bins, BEV of 32x32 cells."""
    cfg = Config.fromfile(str(BASE))
    widths = [16, 32, 64, 128]
    resnet = dict(depth=18, stem_channels=16, base_channels=16, init_cfg=None)
    lift = dict(image_size=IMAGE, cell=CELL, depth_range=BINS)
    cfg.merge_from_dict(
        dict(
            model=dict(
                num_frames=2,
                backbone=dict(
                    lift_splat=lift,
                    img_backbone=resnet,
                    img_neck=dict(in_channels=widths, out_channels=[8] * 4),
                    depth_net=dict(in_channels=32, mid_channels=32),
                    out_channels=16,
                ),
                head=dict(
                    trunk=dict(in_channels=32, base_channels=16),
                    neck=dict(in_channels=[32, 16, 32, 64], out_channels=[16] * 4),
                    in_channels=64,
                    bbox_coder=dict(voxel_size=[0.8, 0.8, 8]),
                ),
                train_cfg=dict(grid_size=[128, 128, 1], voxel_size=[0.8, 0.8, 8]),
                test_cfg=dict(voxel_size=[0.8, 0.8, 8]),
                **model,
            )
        )
    )
    return cfg


@pytest.fixture(scope='module')
def record(parity: Path) -> dict[str, Any]:
    """The parity file."""
    return torch.load(parity / 'parity_bevdepth_pint.pt', weights_only=True)


@pytest.fixture(scope='module')
def model(record: dict[str, Any]) -> nn.Module:
    """The model with the file's weights: float64 but for the head, as there."""
    model = build_model(small_config().model).eval()
    model.backbone.double()
    model.load_state_dict(record['state'])  # strict
    return model


def matrices(record: dict[str, Any], frame: int) -> CameraMatrices:
    """Matrices of one key frame, from the original's form."""
    mats = record['mats']
    ida = mats['ida_mats'][:, frame]
    pixel = torch.zeros(*ida.shape[:2], 3, 3, dtype=torch.float64)
    pixel[..., :2, :2], pixel[..., :2, 2], pixel[..., 2, 2] = ida[..., :2, :2], ida[..., :2, 3], 1
    intrinsic = mats['intrin_mats'][:, frame, :, :3, :3]
    return CameraMatrices(mats['sensor2ego_mats'][:, frame], intrinsic, pixel, mats['bda_mat'])


@pytest.fixture(scope='module')
@torch.no_grad()
def lifted(model: nn.Module, record: dict[str, Any]) -> list[Lifted]:
    """Depth and context of both frames, with the camera numbers of the first."""
    now = matrices(record, 0)
    return [model.backbone.lift(record['imgs'][:, frame], now) for frame in (0, 1)]


def pool(model: nn.Module, record: dict[str, Any], lifted: list[Lifted], truncate: bool) -> Tensor:
    """BEV maps of both frames side by side."""
    model.backbone.lift_splat.truncate = truncate
    return torch.cat([model.backbone.pool(item, matrices(record, i)) for i, item in enumerate(lifted)], 1)


@torch.no_grad()
def test_bev_depth_and_heads_equal_the_original(
    model: nn.Module, record: dict[str, Any], lifted: list[Lifted]
) -> None:
    torch.testing.assert_close(lifted[0].depth, record['depth'], rtol=0, atol=1e-12)
    bev = pool(model, record, lifted, truncate=True)
    torch.testing.assert_close(bev, record['bev'], rtol=0, atol=1e-9)
    for (ours,), theirs in zip(model.head(bev.float()), record['preds'], strict=True):
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value, rtol=0, atol=1e-5)


def test_whole_cells_differ_from_truncated_ones(
    model: nn.Module, record: dict[str, Any], lifted: list[Lifted]
) -> None:
    assert (pool(model, record, lifted, truncate=False) - record['bev']).abs().max() > 1e-3

"""BEVDepth against what the original computed on the real keyframe, at a small size, in float64."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmcv import Config
from mmdet3d.core.bbox import LiDARInstance3DBoxes
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.hosts.bevdepth.camera_matrices import CameraMatrices
from projects.mmdet3d_plugin.hosts.bevdepth.lift_splat import Lifted

BASE = Path(__file__).resolve().parents[3] / 'projects/configs/_base_/models/bevdepth.py'
DETECTION_LOSS = 1037.16772  # what the original computed from its outputs and the frame's boxes, in float32
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


@pytest.fixture(scope='module')
def truth(model: nn.Module, nuscenes_one_frame: Path) -> tuple[list[LiDARInstance3DBoxes], list[Tensor]]:
    """The real frame's boxes, as they lie in the LiDAR frame, and their labels."""
    content = json.loads((nuscenes_one_frame / 'lidar_frame_boxes.json').read_text())
    names = [name for task in model.head.class_names for name in task]
    known = np.isin(content['names'], names)
    boxes = torch.from_numpy(np.nan_to_num(np.array(content['boxes'], np.float32)[known]))
    labels = torch.tensor([names.index(name) for name in np.array(content['names'])[known]])
    return [LiDARInstance3DBoxes(boxes, box_dim=9, origin=(0.5, 0.5, 0.5))], [labels]


def copies(preds: list[dict[str, Tensor]], **kind: Any) -> list[list[dict[str, Tensor]]]:
    """The file's outputs as the head gives them; its loss writes into what it is given."""
    return [[{name: value.to(**kind, copy=True) for name, value in task.items()}] for task in preds]


def published_loss(head: nn.Module, task: dict[str, Tensor], target: tuple[Tensor, ...]) -> Tensor:
    """Gaussian focal loss and a quarter of the weighted L1 distance of one task, written out."""
    heat, codes, places, known = target
    p = task['heatmap'].sigmoid().clamp(1e-4, 1 - 1e-4)
    peak = heat == 1
    focal = -(p.log() * (1 - p) ** 2)[peak].sum() - ((1 - p).log() * p**2 * (1 - heat) ** 4)[~peak].sum()
    outputs = torch.cat([task[name] for name in ('reg', 'height', 'dim', 'rot', 'vel')], 1).flatten(2)[0]
    weights = known[0][:, None] * codes.new_tensor(head.train_cfg['code_weights'])
    distance = ((outputs[:, places[0]].t() - codes[0]).abs() * weights).sum()
    # boxes that share a cell share a peak
    return focal / peak.sum().clamp(min=1) + 0.25 * distance / (known.sum() + 1e-4)


def test_detection_loss_and_its_gradients_equal_the_original(
    model: nn.Module,
    record: dict[str, Any],
    truth: tuple[list, list[Tensor]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The file has no gradients: they are compared with those of the published formula in float64."""
    monkeypatch.setitem(model.head.train_cfg, 'code_weights', [1.0] * 10)
    ours = copies(record['preds'])
    leaves = [value.requires_grad_() for (task,) in ours for value in task.values()]
    # its heatmaps are turned into probabilities in place, which leaves may not be
    losses = model.head.loss(
        *truth, [[{name: value * 1 for name, value in task.items()}] for (task,) in ours]
    )
    total = sum(losses.values())
    assert total.item() == pytest.approx(DETECTION_LOSS, rel=1e-5)
    total.backward()
    exact = copies(record['preds'], dtype=torch.float64)
    wanted = [value.requires_grad_() for (task,) in exact for value in task.values()]
    targets = zip(*model.head.get_targets(*truth), strict=True)
    sum(
        published_loss(model.head, task, target) for (task,), target in zip(exact, targets, strict=True)
    ).backward()
    for mine, theirs in zip(leaves, wanted, strict=True):
        torch.testing.assert_close(mine.grad.double(), theirs.grad, rtol=1e-4, atol=1e-6)

"""Graphs in ONNX beside torch on real frames: boxes within a millimetre, in the same order.

They need onnxruntime, which the environment of the tests does not hold: ``pip install --target DIR -r requirements/onnx.txt``,
then ``PYTHONPATH=DIR:$PWD python -m pytest tests/engine/deploy``.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmcv import Config
from torch import nn

from projects.mmdet3d_plugin.common.checkpoint import write_checkpoint
from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.datasets.converters.kitti_converter import create_kitti_infos
from projects.mmdet3d_plugin.engine.build import build_loader, build_split
from projects.mmdet3d_plugin.engine.deploy.export_onnx import export_onnx
from projects.mmdet3d_plugin.engine.deploy.onnx_detector import OnnxDetector
from projects.mmdet3d_plugin.engine.deploy.quantize import calibration_feeds, calibration_samples, quantize
from projects.mmdet3d_plugin.engine.deploy.seal import SEAL, sealed
from projects.mmdet3d_plugin.engine.inference import run_inference
from projects.mmdet3d_plugin.engine.launch import start
from tests.hosts.bevdepth import test_bevdet

CONFIGS = Path(__file__).resolve().parents[3] / 'projects/configs/synthetic'
WHY = 'onnxruntime is an optional extra: see the top of this file'
pytestmark = [pytest.mark.filterwarnings('ignore')]
BRANCHES = ('task_heads', 'conv_cls.weight', 'conv_dir', 'conv_offset')
QUERIES = ('cls_branches', 'sampling_offsets.weight', 'attention_weights.weight')
TWO_KEY_FRAMES = {
    'model.num_frames': 2,
    'model.frame': 'ego',
    'model.head.trunk.in_channels': 32,
    'model.head.neck.in_channels': [32, 16, 32, 64],
}
DCN = {  # bottlenecks, which may be deformable, as in R101-DCN, of the widths of the small backbone
    'model.img_backbone.depth': 50,
    'model.img_backbone.base_channels': 4,
    'model.img_backbone.dcn': dict(type='DCNv2', deform_groups=1, fallback_on_stride=False),
    'model.img_backbone.stage_with_dcn': (False, False, True),
    'model.img_backbone.zero_init_residual': False,  # else nobody would see what the untrained ones give
}


@pytest.fixture(autouse=True)
def runtime() -> None:
    """Skip without the packages."""
    pytest.importorskip('onnx', reason=WHY)
    pytest.importorskip('onnxruntime', reason=WHY)


def random_detector(cfg: Config) -> nn.Module:
    """A detector whose scores differ from box to box, and whose attention and taps depend on what they see."""
    torch.manual_seed(0)
    model = build_model(cfg.model)
    model.init_weights()
    for name, parameter in model.named_parameters():
        if any(part in name for part in QUERIES):
            nn.init.normal_(parameter, std=0.2)
        if any(part in name for part in BRANCHES):
            # scores far apart, so that none are equal where suppression ends, and sizes that stay those of cars
            parameter.data.add_(torch.randn_like(parameter), alpha=0.1 if 'heatmap' in name else 0.05)
        if 'conv_cls.bias' in name:
            nn.init.zeros_(parameter)
    return model.eval()


def exported(cfg: Config, folder: Path) -> tuple[nn.Module, Path]:
    """A detector of random weights and its graph."""
    model = random_detector(cfg)
    write_checkpoint(folder / 'model.pth', dict(meta={}, state_dict=model.state_dict()))
    export_onnx(cfg, folder / 'model.pth', folder / 'model.onnx')
    return model, folder / 'model.onnx'


def found_in(cfg: Config, model: nn.Module) -> list[dict[str, Any]]:
    """Results on the validation split, as testing computes them."""
    launch = start('none')
    loader = build_loader(cfg, build_split(cfg, 'test', test_mode=True), False, launch)
    return [result.get('pts_bbox', result) for result in run_inference(model, loader, launch)]


def assert_same(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """Scores within 1e-4, boxes within 1e-3 and labels, in the same order but for scores that are equal to the sixth place."""
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert len(one['scores_3d']) > 5
        torch.testing.assert_close(one['scores_3d'], other['scores_3d'], atol=1e-4, rtol=0)
        apart = (one['boxes_3d'].tensor[:, None] - other['boxes_3d'].tensor).abs().amax(-1)
        tied = (one['scores_3d'][:, None] - other['scores_3d']).abs() < 1e-6
        alike = one['labels_3d'][:, None] == other['labels_3d']
        place = torch.arange(len(apart))
        beside = tied & ((place[:, None] - place).abs() < 4) | torch.eye(len(apart), dtype=torch.bool)
        assert ((apart < 1e-3) & alike & beside).any(1).all(), (apart.diagonal().max(), len(apart))


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('bevformer_near_student', None),
        ('bevformer_near_student', DCN),
        ('detr3d_student', None),
        ('detr3d_student', DCN),
        ('bevdepth_near_student', None),
    ],
    ids=['BEVFormer', 'BEVFormer-DCN', 'DETR3D', 'DETR3D-DCN', 'BEVDepth'],
)
def test_cameras_of_the_real_frame(
    name: str, options: dict[str, Any] | None, one_frame_root: Path, tmp_path: Path
) -> None:
    cfg = load_config(CONFIGS / f'{name}.py', options, str(one_frame_root))
    cfg.data.test.ann_file = cfg.data.train.ann_file  # of which the only frame is
    model, path = exported(cfg, tmp_path)
    detector = OnnxDetector(path)
    assert_same(found_in(cfg, detector), found_in(cfg, model))
    if name == 'detr3d_student':
        (batch,) = build_loader(cfg, build_split(cfg, 'test', test_mode=True), False, start('none'))
        img, metas = batch['img'].data[0], batch['img_metas'].data[0]
        both = detector(img=torch.cat([img, img.flip(-1)]), img_metas=metas * 2)
        assert_same(both, model(return_loss=False, img=torch.cat([img, img.flip(-1)]), img_metas=metas * 2))


@pytest.mark.parametrize('name', ['kitti_pointpillars_student_4x', 'kitti_centerpoint_student'])
def test_real_clouds_and_eight_bits(name: str, kitti_five_frames: Path, tmp_path: Path) -> None:
    if not (kitti_five_frames / 'kitti_infos_val.pkl').exists():
        create_kitti_infos(kitti_five_frames, progress=False)
    cfg = load_config(CONFIGS / f'{name}.py', None, str(kitti_five_frames))
    model, path = exported(cfg, tmp_path)
    assert_same(found_in(cfg, OnnxDetector(path)), found_in(cfg, model))
    size = path.stat().st_size
    quantize(path, calibration_feeds(path, cfg, calibration_samples(cfg), frames=2))
    assert path.stat().st_size < size
    assert all(len(result['scores_3d']) for result in found_in(cfg, OnnxDetector(path)))


def test_a_seal_is_metadata_for_every_reader() -> None:
    onnx = pytest.importorskip('onnx', reason=WHY)
    ((key, value),) = ((e.key, e.value) for e in onnx.load_from_string(sealed(b'')).metadata_props)
    assert (key, len(json.loads(value))) == (SEAL, 64)


def test_key_frames_of_a_scene_in_the_ego_frame(tiny_nuscenes: Path, tmp_path: Path) -> None:
    """Four frames of which each looks at the one before it."""
    cfg = load_config(CONFIGS / 'bevdepth_near_student.py', TWO_KEY_FRAMES, str(tiny_nuscenes))
    model, path = exported(cfg, tmp_path)
    assert_same(found_in(cfg, OnnxDetector(path)), found_in(cfg, model))


def test_the_bevdet_family_over_a_scene(tiny_nuscenes: Path, tmp_path: Path) -> None:
    """BEVDepth4D with its deformable convolution; each frame looks at the one before it.

    On the near range, and the surest boxes alone: cells that no camera sees have one score, and which of them stay is chance.
    """
    cfg = load_config(CONFIGS / 'bevdepth_near_student.py', None, str(tiny_nuscenes))
    near, fine = cfg.point_cloud_range, dict(voxel_size=[0.4, 0.4, 8])
    cfg.model = test_bevdet.small_config(
        img_view_transformer=dict(
            lift_splat=dict(image_size=(64, 128), cell=1.6, pc_range=near, depth_range=(1.0, 29.0, 1.0)),
            in_channels=32,
            context_channels=16,
            depth_channels=16,
        ),
        pts_bbox_head=dict(in_channels=32, bbox_coder=dict(pc_range=near[:2], **fine)),
        train_cfg=dict(point_cloud_range=near, grid_size=[128, 128, 1], **fine),
        test_cfg=dict(pre_max_size=60, post_max_size=12, **fine),
    ).model
    model, path = exported(cfg, tmp_path)
    assert_same(found_in(cfg, OnnxDetector(path)), found_in(cfg, model))

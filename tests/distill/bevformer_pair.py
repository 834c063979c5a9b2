"""A shrunken BEVFormer teacher and student, as the published pair relate to one another."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv import Config
from mmdet.models import DETECTORS
from torch.nn.functional import interpolate

from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.recipe import build_distiller
from tests.factories import PC_RANGE, frame_batch, pint_bevformer_config

CLASSES = [f'class_{i}' for i in range(10)]
TERMS = [
    dict(type='ChannelWiseDivergence', name='pv_cwd', on='pv', tau=2.0, weight=0.25),
    dict(
        type='FeatureL2',
        name='bev_l2',
        on='bev',
        connector='deconv',
        region=dict(type='GTHeatmap'),
        weight=9.0,
    ),
]


def student_config() -> dict[str, Any]:
    """Earlier stages at half resolution meet the teacher's later stages, as in the published pair."""
    cfg = pint_bevformer_config()
    cfg['img_backbone'] |= dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(1, 2))
    cfg['img_neck']['in_channels'] = [32, 64]
    return cfg


def teacher_config() -> dict[str, Any]:
    """Twice the BEV resolution, one encoder layer more."""
    cfg = pint_bevformer_config()
    cfg['pts_bbox_head'] |= dict(bev_h=20, bev_w=24)
    cfg['pts_bbox_head']['transformer']['encoder']['num_layers'] = 3
    return cfg


def paired_batch(seeds: list[int], queue: int = 2) -> dict[str, Any]:
    """A batch with the teacher's view: the same frames at twice the resolution."""
    batch = frame_batch(seeds, queue, pc_range=PC_RANGE)
    img = batch['img']
    large = interpolate(img.flatten(0, 2), scale_factor=2, mode='bilinear').unflatten(0, img.shape[:3])
    return {
        **batch,
        'teacher_img': large,
        'teacher_img_metas': [[_enlarged(m) for m in q] for q in batch['img_metas']],
    }


def _enlarged(meta: dict[str, Any]) -> dict[str, Any]:
    scale = np.diag([2.0, 2.0, 1.0, 1.0])
    return {
        **meta,
        'lidar2img': scale @ meta['lidar2img'],
        'img_shape': [(2 * h, 2 * w, c) for h, w, c in meta['img_shape']],
    }


@cache
def teacher_weights() -> dict[str, torch.Tensor]:
    """A state dict of the teacher."""
    torch.manual_seed(3)
    teacher = DETECTORS.build(teacher_config())
    teacher.init_weights()
    return teacher.state_dict()


def build_pair(folder: Path, student: dict[str, Any] | None = None, **changes: Any) -> Distiller:
    """The pair under a distiller; keyword arguments change the ``distiller`` part of the recipe."""
    torch.save({'state_dict': teacher_weights()}, folder / 'teacher.pth')
    teacher_part = dict(
        config=dict(model=teacher_config(), class_names=CLASSES), checkpoint=str(folder / 'teacher.pth')
    )
    recipe = dict(type='Distiller', teacher=teacher_part, terms=TERMS) | changes
    torch.manual_seed(0)
    distiller = build_distiller(
        Config(dict(model=student or student_config(), class_names=CLASSES, distiller=recipe))
    )
    distiller.init_weights()
    return distiller

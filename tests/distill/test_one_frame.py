"""The scaled-down recipe on the real frame, through the dataset and the collation of the engine."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmcv.parallel import scatter
from mmdet3d.datasets import build_dataset

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.datasets.builder import build_dataloader
from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.recipe import build_distiller
from projects.mmdet3d_plugin.distill.step import Step
from projects.mmdet3d_plugin.distill.views import with_teacher_view

RECIPE = 'projects/configs/synthetic/distill_heatmap.py'


def load(root: Path, view: str) -> tuple[Distiller, dict[str, Any]]:
    """The recipe's distiller with a teacher of random weights, and a batch with the real frame."""
    cfg = load_config(RECIPE, {'distiller.teacher.view': view}, str(root))
    cfg.distiller.teacher.pop('checkpoint')
    cfg.distiller.teacher.random_weights = True
    torch.manual_seed(0)
    distiller = build_distiller(cfg)
    cfg = with_teacher_view(cfg, distiller.teacher.cfg)
    loader = build_dataloader(build_dataset(cfg.data.train), workers_per_gpu=0)
    return distiller, scatter(next(iter(loader)), [-1])[0]


@pytest.mark.parametrize('view', ['native', 'upsampled'])
def test_one_step_teaches_every_trainable_weight(one_frame_root: Path, view: str) -> None:
    distiller, batch = load(one_frame_root, view)
    small, large = batch['img'].shape, batch['teacher_img'].shape
    assert large[-1] == 2 * small[-1]
    out = distiller.train().train_step(batch)
    kd = {key: value for key, value in out['log_vars'].items() if 'kd' in key}
    assert len(kd) == len(distiller.distill)
    assert all(value > 0 for value in kd.values())
    out['loss'].backward()
    assert not [name for name, p in distiller.named_parameters() if p.requires_grad and p.grad is None]


def test_heatmap_peaks_on_every_box_in_range(one_frame_root: Path) -> None:
    distiller, batch = load(one_frame_root, 'native')
    heatmap = distiller.distill['bev_l2'].region(Step(batch, {}, {}), torch.zeros(1, 1, 200, 200))
    centre = batch['gt_bboxes_3d'][0].gravity_center[:, :2]
    column, row = ((centre + 51.2) / 0.512).long().unbind(1)
    assert len(centre) >= 33
    assert (heatmap[0, 0, row, column] == 1).all()

"""BEVDepth as student and teacher, one step each on the real frame through the pint-sized recipes."""

from collections import UserList
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from mmcv.parallel import scatter
from mmdet3d.datasets import build_dataset

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.datasets.builder import build_dataloader
from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.hosts.adapter import adapter_for
from projects.mmdet3d_plugin.distill.recipe import build_distiller
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.step import Step
from projects.mmdet3d_plugin.distill.taps import Recorder
from projects.mmdet3d_plugin.distill.views import with_teacher_view
from projects.mmdet3d_plugin.engine.build import require_cameras
from tests.hosts.bevdepth.test_bevdepth import images, meta
from tests.hosts.bevdepth.test_parity import small_config

WORLD = 'projects/configs/synthetic'


@cache
def load(
    root: Path, recipe: str, teacher: str | None = None, frame: str = 'lidar', **weights: float
) -> tuple[Distiller, dict[str, Any]]:
    """A recipe's distiller with a teacher of random weights, and a batch with the real frame."""
    options = {f'distiller.terms.{name}.weight': value for name, value in weights.items()}
    cfg = load_config(f'{WORLD}/{recipe}.py', options | {'model.frame': frame}, str(root))
    cfg.distiller.teacher.pop('checkpoint')
    cfg.distiller.teacher.random_weights = True
    if teacher is not None:
        cfg.distiller.teacher.config = f'{WORLD}/{teacher}.py'
    torch.manual_seed(0)
    distiller = build_distiller(cfg)
    cfg = with_teacher_view(cfg, distiller.teacher.cfg)
    loader = build_dataloader(build_dataset(cfg.data.train), workers_per_gpu=0)
    return distiller, scatter(next(iter(loader)), [-1])[0]


def step(distiller: Distiller, batch: dict[str, Any]) -> dict[str, float]:
    """Losses of one step that were checked to reach every weight that can learn."""
    distiller.zero_grad()
    out = distiller.train().train_step(batch)
    out['loss'].backward()
    assert out['loss'].isfinite()
    assert not [name for name, p in distiller.named_parameters() if p.requires_grad and p.grad is None]
    return out['log_vars']


def test_fd3d_with_a_head_trained_along(one_frame_root: Path) -> None:
    distiller, batch = load(one_frame_root, 'bevdepth_near_distill_fd3d')
    losses = step(distiller, batch)
    assert {'loss_kd_pv_generation', 'loss_kd_bev_generation', 'loss_kd_bev_focal', 'loss_depth'} <= set(
        losses
    )
    assert losses['loss_head_cls'] > 0
    assert losses['loss_kd_bev_generation'] > 0
    frames = UserList([batch])
    for frames.cameras in (range(6), range(2)):  # neither host, nor the head, is made for a number of cameras
        require_cameras(distiller, frames)


def test_the_last_layers_of_a_wider_teachers_head_are_inherited(one_frame_root: Path) -> None:
    distiller, _ = load(one_frame_root, 'bevdepth_near_distill_inherit')
    distiller.init_weights()
    own, source = (model.state_dict() for model in (distiller.student, distiller.teacher.model))
    last = [name for name in own if name.startswith(('head.shared_conv.', 'head.task_heads.'))]
    assert last
    assert not [name for name in last if not torch.equal(own[name], source[name])]
    first = 'head.trunk.conv1.weight'
    assert own[first].shape != source[first].shape


def test_bev_map_and_heatmaps(one_frame_root: Path) -> None:
    losses = step(*load(one_frame_root, 'bevdepth_near_distill_heads'))
    assert losses['loss_kd_bev_l2'] > 0
    assert losses['loss_kd_relation'] > 0
    assert losses['loss_kd_logit'] > 0


def test_logits_and_boxes_of_a_teacher_on_the_same_grid(one_frame_root: Path) -> None:
    """As at full size, where teacher and student share their cells: boxes are taught at object centres too."""
    distiller, batch = load(
        one_frame_root, 'bevdepth_near_distill_heads', 'bevdepth_near_student', regression=1.0
    )
    losses = step(distiller, batch)
    assert losses['loss_kd_logit'] > 0
    assert losses['loss_kd_regression'] > 0


def test_a_teacher_of_another_family_and_range_is_cut_to_the_students(one_frame_root: Path) -> None:
    distiller, batch = load(one_frame_root, 'bevdepth_near_distill_features', 'bevformer_teacher')
    assert step(distiller, batch)['loss_kd_bev_l2'] > 0
    term = distiller.terms['bev_l2']
    assert term.limits == [-25.6, -25.6, -5.0, 25.6, 25.6, 3.0]
    student, teacher = term.features(distiller.run_models(batch)[1])
    assert (
        student.shape == teacher.shape == (1, 64, 20, 20)
    )  # 40x40 cells of 2.56 m, of which +-25.6 m are shared


def test_a_map_of_another_frame_is_turned_to_the_teachers(one_frame_root: Path) -> None:
    distiller, batch = load(one_frame_root, 'bevdepth_near_distill_features', frame='ego')
    own = distiller.adapter.prepare(distiller.student, batch)
    maps = [[torch.randn(1, channels, size, size)] for channels, size in ((64, 32), (64, 64))]
    student, teacher = distiller.terms['bev_l2'].features(Step(own, *({'head.neck': x} for x in maps)))
    assert student.shape == teacher.shape


def test_raw_predictions_and_final_boxes_of_a_teacher(one_frame_root: Path) -> None:
    distiller, batch = load(one_frame_root, 'bevdepth_near_distill_heads')
    adapter, teacher = adapter_for(distiller.teacher.model), distiller.teacher
    seen = teacher.observe(batch, [*distiller.taps('teacher')], torch.device('cpu'))
    assert seen.predictions['bev_embed'].shape == (1, 64 * 64, 64)
    for task in adapter.aliases(teacher.model)['heads'][0].convert(seen.features['head']):
        assert task['heatmap'].shape[-2:] == (64, 64)
    found = teacher.detect(seen)
    assert len(found) == 1
    assert found[0].boxes.tensor.shape[1] == 9


def test_queries_of_its_own_are_not_offered(one_frame_root: Path) -> None:
    distiller, _ = load(one_frame_root, 'bevdepth_near_distill_heads')
    with pytest.raises(DistillError, match=r"init='scratch'"):
        distiller.teacher.adapter.query_head(distiller.teacher.model)


@torch.no_grad()
def test_the_pooled_map_is_read_with_depth_aggregation_too() -> None:
    cfg = small_config().model
    cfg.backbone.use_da = True
    model = build_model(cfg).eval()
    taps = adapter_for(model).taps(model, 'lss')
    with Recorder(model, taps) as recorder:
        model.extract_feat(images(1, 1)[:, 0], [meta(0)])
    assert recorder.pop()[taps[0].path].shape == (1, taps[0].channels, *taps[0].size)

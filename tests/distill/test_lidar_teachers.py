"""A LiDAR teacher of camera students: pint-sized recipes, one step each, and what must not change."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmcv.parallel import collate
from torch import nn

from projects.configs._base_ import camera
from projects.configs._base_.recipes import lidar_row
from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.datasets.samplers import SeededIndex
from projects.mmdet3d_plugin.distill.bev_grid import BEVGrid, place_bev
from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.losses.inner_depth import object_pixels
from projects.mmdet3d_plugin.distill.recipe import build_terms, require_agreement
from projects.mmdet3d_plugin.distill.regions.bev_footprint import draw_footprints
from projects.mmdet3d_plugin.distill.regions.region import join_boxes
from projects.mmdet3d_plugin.distill.registry import TARGETS, DistillError, build_part
from projects.mmdet3d_plugin.distill.teachers.frozen_teacher import FrozenTeacher
from projects.mmdet3d_plugin.distill.views import with_teacher_view
from projects.mmdet3d_plugin.engine.build import build_split
from projects.mmdet3d_plugin.engine.launch import start
from projects.mmdet3d_plugin.engine.parallel import unpack_batch
from projects.mmdet3d_plugin.hosts.bevdepth.camera_matrices import CameraMatrices
from projects.mmdet3d_plugin.hosts.bevdepth.depth_target import depth_labels, nearest_depth
from projects.mmdet3d_plugin.hosts.bevdepth.lift_splat import LiftSplat

STUDENTS = {'bevformer': 'bevformer_near_student.py', 'bevdepth': 'bevdepth_near_student.py'}
ROWS = {
    'bevformer': ('regions', 'queries', 'fd3d'),
    'bevdepth': ('dense', 'regions', 'keypoints'),
}


class World(NamedTuple):
    """A student, its teacher, and a batch with both views."""

    student: nn.Module
    teacher: FrozenTeacher
    batch: dict[str, Any]


@cache
def teacher_config() -> Any:
    """The pint-sized CenterPoint, which suppresses few boxes: those of random weights are many."""
    cfg = load_config('centerpoint_near_teacher.py')
    cfg.model.test_cfg.pts.update(pre_max_size=30, post_max_size=10)
    return cfg


@pytest.fixture(scope='module')
def worlds(tiny_nuscenes: Path) -> Callable[[str], World]:
    """A function that builds a student's world, once for all tests."""

    @cache
    def build(name: str) -> World:
        torch.manual_seed(0)
        cfg = load_config(STUDENTS[name], data_root=tiny_nuscenes)
        cfg.distiller = dict(teacher=dict(view='native'))
        cfg.data.train.use_valid_flag = False
        teacher = FrozenTeacher(teacher_config()._cfg_dict, random_weights=True, view='native')
        student = build_model(cfg.model)
        student.init_weights()
        frames = build_split(with_teacher_view(cfg, teacher.cfg), 'train', test_mode=False)
        batch = collate([frames[SeededIndex(2, 0)]], samples_per_gpu=1)
        return World(student.train(), teacher, unpack_batch(batch, start('none', 'cpu')))

    return build


def test_real_objects_coincide_in_the_maps_of_both_senses(one_frame_root: Path) -> None:
    """In a turned world, pixels of real objects, lifted by their depth into the car's frame, land on the boxes of the
    LiDAR's; without the change of frames they land elsewhere."""
    cfg = load_config('bevdepth_r50_256x704.py', data_root=one_frame_root)
    cfg.data.train.pipeline, _ = camera.lifting_pipelines((704, 256), 0.44, None)
    frame = build_split(cfg, 'train', test_mode=False)[SeededIndex(0, 4)]
    batch = unpack_batch(collate([frame], samples_per_gpu=1), start('none', 'cpu'))
    meta, limits = batch['img_metas'][0][-1], cfg.point_cloud_range
    assert not np.allclose(meta['bda'], np.eye(4))
    lift = LiftSplat(limits, 0.8, (1.0, 61.0, 0.25), (256, 704), 8)
    projection = torch.as_tensor(meta['lidar2img'])[None].float()
    near = nearest_depth(batch['points'], projection, lift.image_size, 8)
    depth = F.one_hot(depth_labels(near, lift, centred=True).clamp(min=0), len(lift.bins))
    boxes = batch['gt_bboxes_3d']
    cells, _, _ = object_pixels(batch['points'][0], boxes[0], projection[0], lift.image_size, near.shape[-2:])
    marked = torch.zeros(near.numel()).index_fill(0, cells, 1.0).view(6, 1, *near.shape[-2:])
    lifted = lift(depth.permute(0, 3, 1, 2).float(), marked, CameraMatrices.of([meta], frame='ego')).float()
    placed = place_bev(lifted, BEVGrid(limits, 'ego'), limits, 'lidar', [[meta]])
    footprints = draw_footprints(*join_boxes(boxes, lifted.device), limits, lift.size, 1, margin=0.8)
    assert len(cells) > 300
    assert (placed * footprints).sum() > 0.98 * placed.sum()
    assert (lifted * footprints).sum() < 0.2 * lifted.sum()


@pytest.mark.parametrize(('name', 'row'), [(name, row) for name, rows in ROWS.items() for row in rows])
def test_every_recipe_takes_a_step_that_teaches(worlds: Callable[[str], World], name: str, row: str) -> None:
    world = worlds(name)
    terms = build_terms(lidar_row(row)['terms'], world.student, world.teacher)
    distiller = Distiller(world.student, world.teacher, terms)
    distiller.zero_grad()
    losses = {key: value for key, value in distiller(**world.batch).items() if 'kd' in key}
    assert len(losses) == len(terms)
    assert all(value.isfinite() for value in losses.values())
    if row != 'queries':  # boxes of random weights agree with no ground truth
        assert any(value > 0 for value in losses.values())
        sum(losses.values()).backward()
        assert any(p.grad is not None and p.grad.any() for p in world.student.parameters())
        assert all(p.grad is None or p.grad.isfinite().all() for p in world.student.parameters())


@pytest.mark.parametrize('kind', ['lidar', 'bevformer', 'bevdepth'])
def test_boxes_of_what_was_kept_on_disk_are_those_of_the_first_look(
    worlds: Callable[[str], World], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of a camera student has lists of metas over time, of which a detector reads the last."""
    world, device = worlds('bevdepth' if kind == 'bevdepth' else 'bevformer'), torch.device('cpu')
    cfg = teacher_config() if kind == 'lidar' else load_config(STUDENTS[kind])
    view = 'native' if kind == 'lidar' else 'same'
    teacher = FrozenTeacher(cfg._cfg_dict, random_weights=True, view=view, cache_dir=str(tmp_path))
    first = teacher.detect(teacher.observe(world.batch, [], device))
    for name in ('prepare', 'infer'):  # neither earlier frames nor this one are looked at again
        monkeypatch.setattr(teacher.adapter, name, None)
    second = teacher.detect(teacher.observe(world.batch, [], device))
    assert len(first) == len(second) == 1
    assert torch.equal(first[0].boxes.tensor, second[0].boxes.tensor)
    assert torch.equal(first[0].scores, second[0].scores)


@pytest.mark.parametrize(
    ('name', 'row', 'far'),
    [
        ('bevformer', 'regions', False), ('bevformer', 'queries', True), ('bevformer', 'fd3d', True),
        ('bevdepth', 'keypoints', False),
    ],
)  # fmt: skip
def test_a_cloud_without_a_point_in_range_breaks_nothing(
    worlds: Callable[[str], World], name: str, row: str, far: bool
) -> None:
    world = worlds(name)
    clouds = {
        key: [cloud + 1000 if far else cloud[:0] for cloud in value]
        for key, value in world.batch.items()
        if 'points' in key
    }
    assert 'teacher_points' in clouds
    distiller = Distiller(
        world.student, world.teacher, build_terms(lidar_row(row)['terms'], world.student, world.teacher)
    )
    distiller.zero_grad()
    losses = distiller(**{**world.batch, **clouds})
    total = sum(value.sum() for key, value in losses.items() if 'loss' in key)
    assert total.isfinite()
    total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in distiller.parameters())


def test_the_teachers_boxes_become_targets_and_its_weights_stay(worlds: Callable[[str], World]) -> None:
    world = worlds('bevformer')
    before = {key: value.clone() for key, value in world.teacher.model.state_dict().items()}
    labels = build_part(TARGETS, dict(type='TeacherLabels', score_thr=0.05), 'x')
    distiller = Distiller(world.student, world.teacher, {}, targets=[labels])
    seen: list[int] = []
    losses = distiller.adapter.losses

    def count(model: nn.Module, batch: dict[str, Any]) -> dict[str, Any]:
        seen.append(len(batch['gt_labels_3d'][0]))
        return losses(model, batch)

    distiller.adapter.losses = count
    distiller(**world.batch)
    assert seen[0] > len(world.batch['gt_labels_3d'][0])
    for _ in range(50):
        distiller.train()
        distiller.teacher.observe(world.batch, [], torch.device('cpu'))
    after = world.teacher.model.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_a_net_of_two_stages_teaches_by_its_refined_boxes(worlds: Callable[[str], World]) -> None:
    """The scaled-down recipe: its boxes have the first stage's velocities, say where regions are, and reach queries."""
    world, cfg = worlds('bevformer'), load_config('cross_near_distill_two_stage.py')
    torch.manual_seed(0)
    theirs = load_config(cfg.distiller.teacher.config)
    teacher = FrozenTeacher(theirs._cfg_dict, random_weights=True, view='native')
    assert theirs.data.test.pipeline == world.teacher.cfg.data.test.pipeline
    distiller = Distiller(world.student, teacher, build_terms(cfg.distiller.terms, world.student, teacher))
    seen = teacher.observe(world.batch, [], torch.device('cpu'))
    (found,) = teacher.detect(seen)
    assert len(found.scores) > 3
    assert found.boxes.tensor.shape[1] == 9
    losses = {key: value for key, value in distiller(**world.batch).items() if 'kd' in key}
    assert set(losses) == {'loss_kd_regions', 'loss_kd_queries'}
    world.student.zero_grad()
    losses['loss_kd_regions'].backward()
    assert any(p.grad is not None and p.grad.any() for p in world.student.parameters())
    assert all(p.grad is None for p in teacher.model.parameters())


def test_a_student_needs_no_points(worlds: Callable[[str], World]) -> None:
    """Its checkpoint holds the student alone, and its batches in testing have no cloud."""
    world = worlds('bevformer')
    terms = build_terms(lidar_row('queries')['terms'], world.student, world.teacher)
    distiller = Distiller(world.student, world.teacher, terms)
    assert distiller.state_dict().keys() == world.student.state_dict().keys()
    test = load_config(STUDENTS['bevformer']).data.test.pipeline
    assert not [step for step in test if 'Points' in step['type']]


def test_a_lidar_teacher_cannot_share_the_view_of_cameras(worlds: Callable[[str], World]) -> None:
    world = worlds('bevformer')
    terms = build_terms(lidar_row('queries')['terms'], world.student, world.teacher)
    batch = {key: value for key, value in world.batch.items() if 'points' not in key}
    for view, said in (
        ('same', "CenterPoint looks at points, .* needs view='native'"),
        ('native', 'no .teacher_points'),
    ):
        world.teacher.view = view
        try:
            with pytest.raises(DistillError, match=said):
                Distiller(world.student, world.teacher, terms)(**batch)
        finally:
            world.teacher.view = 'native'


def test_class_order_and_frames_are_guarded(worlds: Callable[[str], World]) -> None:
    world = worlds('bevdepth')
    adapter = Distiller(world.student, world.teacher, {}).adapter
    with pytest.raises(DistillError, match='the order differs'):
        require_agreement(world.student, adapter, world.teacher, [*world.teacher.classes[1:], 'car'])
    world.student.frame = 'ego'
    try:
        with pytest.raises(DistillError, match='compares outputs of heads'):
            build_terms([dict(type='PivotalLogit', on='heads')], world.student, world.teacher)
        (term,) = build_terms(lidar_row('dense')['terms'], world.student, world.teacher).values()
        assert term.limits == [-25.6, -25.6, -5.0, 25.6, 25.6, 3.0]  # compared in the LiDAR frame
        distiller = Distiller(world.student, world.teacher, {'dense': term})
        assert distiller(**world.batch)['loss_kd_dense'].isfinite()
    finally:
        world.student.frame = 'lidar'


def test_queries_are_refused_by_name_where_a_student_has_none(worlds: Callable[[str], World]) -> None:
    world = worlds('bevdepth')
    with pytest.raises(DistillError, match="BEVDepth has no module 'boxes'"):
        build_terms(lidar_row('queries')['terms'], world.student, world.teacher)

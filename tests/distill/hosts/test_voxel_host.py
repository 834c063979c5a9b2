"""PointPillars, SECOND and CenterPoint under the distiller: taps, raw predictions, boxes, shared voxels."""

from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
from mmcv import Config
from torch import nn

from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.hosts.adapter import adapter_for
from projects.mmdet3d_plugin.distill.hosts.centerpoint import CenterPointAdapter
from projects.mmdet3d_plugin.distill.hosts.mvx import MVXAdapter
from projects.mmdet3d_plugin.distill.hosts.voxel_host import VOXELS
from projects.mmdet3d_plugin.distill.hosts.voxelnet import VoxelNetAdapter
from projects.mmdet3d_plugin.distill.recipe import build_distiller
from projects.mmdet3d_plugin.distill.taps import Recorder
from projects.mmdet3d_plugin.distill.voxel_features import VoxelFeatures, require_same_rows
from tests.lidar_factories import centerpoint_config, lidar_batch, mvx_config, pillar_config, total

CLASSES = ['Pedestrian', 'Cyclist', 'Car']
Recipe = Callable[..., Distiller]


def build(cfg: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    return build_model(Config(dict(model=cfg)).model)


def recorded(model: nn.Module, alias: str, box_dim: int = 7) -> list[Any]:
    """What a training step of two samples gives under a short name."""
    adapter = adapter_for(model)
    taps = adapter.taps(model, alias)
    with Recorder(model, taps) as recorder:
        adapter.losses(model, lidar_batch([0, 1], box_dim))
    records = recorder.pop()
    return [tap.convert(records[tap.path]) for tap in taps]


def test_adapters_are_found_by_class() -> None:
    assert type(adapter_for(build(pillar_config()))) is VoxelNetAdapter
    assert type(adapter_for(build(centerpoint_config()))) is CenterPointAdapter
    assert issubclass(CenterPointAdapter, MVXAdapter)


@pytest.mark.parametrize(('config', 'dim'), [(pillar_config, 7), (centerpoint_config, 9)])
def test_voxels_give_features_with_their_rows(config: Callable, dim: int) -> None:
    model = build(config())
    (voxels,) = recorded(model, 'voxels', dim)
    assert isinstance(voxels, VoxelFeatures)
    assert voxels.features.shape == (len(voxels.coors), 8)
    assert voxels.features.requires_grad
    assert voxels.coors.shape[1] == 4
    assert set(voxels.coors[:, 0].tolist()) == {0, 1}
    assert 1 <= voxels.num_points.min() <= voxels.num_points.max() <= 5
    assert adapter_for(model).taps(model, 'voxels')[0].channels == 8


@pytest.mark.parametrize(('config', 'dim', 'size'), [(pillar_config, 7, 8), (centerpoint_config, 9, 16)])
def test_bev_and_backbone_have_the_channels_they_say(config: Callable, dim: int, size: int) -> None:
    model = build(config())
    for alias, sizes in (('bev', [size]), ('backbone', [size, size // 2])):
        taps = adapter_for(model).taps(model, alias)
        shapes = [tuple(feature.shape) for feature in recorded(model, alias, dim)]
        assert shapes == [(2, tap.channels, n, n) for tap, n in zip(taps, sizes, strict=True)]


def test_every_level_of_an_fpn_is_a_bev_feature() -> None:
    model = build(mvx_config())
    assert type(adapter_for(model)) is MVXAdapter
    assert [tuple(level.shape) for level in recorded(model, 'bev')] == [(2, 8, 8, 8), (2, 8, 4, 4)]
    (voxels,) = recorded(model, 'voxels')
    assert voxels.features.shape == (len(voxels.coors), 8)
    assert adapter_for(model).taps(model, 'voxels')[0].channels == 8


def test_heads_of_a_centerpoint_stay_logits() -> None:
    (tasks,) = recorded(build(centerpoint_config()), 'heads', 9)
    assert [task['heatmap'].shape[1] for task in tasks] == [2, 1]
    assert {key: task.shape[1] for key, task in tasks[0].items()} == dict(
        reg=2, height=1, dim=3, rot=2, vel=2, heatmap=2
    )
    # the loss has turned the host's own tensors into probabilities, which are never negative
    assert tasks[0]['heatmap'].min() < 0
    tasks[0]['heatmap'].sum().backward()


def test_heads_of_an_anchor_head_are_its_outputs() -> None:
    ((scores, boxes, directions),) = recorded(build(pillar_config()), 'heads')
    assert [part[0].shape[1] for part in (scores, boxes, directions)] == [18, 42, 12]


@pytest.mark.parametrize(('config', 'dim'), [(pillar_config, 7), (centerpoint_config, 9)])
def test_boxes_can_be_decoded_from_predictions_made_before(config: Callable, dim: int) -> None:
    model = build(config()).eval()
    adapter, batch = adapter_for(model), lidar_batch([0, 1], dim)
    with torch.no_grad():
        predictions = adapter.infer(model, batch)
        found, again = adapter.detect(model, batch), adapter.detect(model, batch, predictions)
    assert len(found) == 2
    for one, other in zip(found, again, strict=True):
        assert one.boxes.tensor.shape == (len(one.scores), dim)
        assert len(one.labels) == len(one.scores) > 0
        assert torch.equal(one.boxes.tensor, other.boxes.tensor)


def test_given_voxels_change_nothing_but_the_work() -> None:
    model = build(pillar_config())
    adapter, batch = adapter_for(model), lidar_batch([0])
    shared = adapter.share_inputs(model, model, batch)
    with mock.patch.object(model.voxel_layer, 'forward', side_effect=AssertionError('voxelised again')):
        first, second = (adapter.losses(model, shared) for _ in range(2))
    own = adapter.losses(model, batch)
    assert total(first).item() == total(second).item() == total(own).item()


@pytest.fixture
def distiller(tmp_path: Any) -> Recipe:
    """A function that makes a distiller whose teacher has 16 channels and a grid of its own, if asked."""

    def make(**teacher: Any) -> Distiller:
        cfg = pillar_config(16, **teacher)
        path = str(tmp_path / 'teacher.pth')
        torch.save({'state_dict': build(cfg).state_dict(), 'meta': {}}, path)
        teacher_cfg = dict(config=dict(model=cfg, class_names=CLASSES), checkpoint=path, view='same')
        term = dict(type='FeatureL2', on='bev', connector='resize_conv')
        recipe = dict(type='Distiller', teacher=teacher_cfg, terms=[term])
        return build_distiller(Config(dict(model=pillar_config(), class_names=CLASSES, distiller=recipe)))

    return make


def rows_of_both(distiller: Distiller) -> tuple[VoxelFeatures, VoxelFeatures]:
    """Voxels of student and teacher in one step."""
    batch = distiller.adapter.share_inputs(distiller.student, distiller.teacher.model, lidar_batch([0, 1]))
    (student_tap,), (teacher_tap,) = (part.taps(*args) for part, args in _sides(distiller))
    knowledge = distiller.teacher.observe(batch, [teacher_tap], torch.device('cpu')).features
    with Recorder(distiller.student, [student_tap]) as recorder:
        distiller.adapter.losses(distiller.student, batch)
    return student_tap.convert(recorder.pop()[student_tap.path]), teacher_tap.convert(
        knowledge[teacher_tap.path]
    )


def _sides(distiller: Distiller) -> list[tuple[Any, tuple]]:
    return [(distiller.adapter, (distiller.student, 'voxels')), (distiller.teacher, ('voxels',))]


def test_on_one_grid_student_and_teacher_see_the_same_rows(distiller: Recipe) -> None:
    """In training the student may keep 60 voxels of a sample, the teacher alone would keep 90."""
    student, teacher = rows_of_both(distiller())
    require_same_rows(student, teacher)
    assert len(student.coors) == 120
    assert teacher.features.shape == (120, 16)


def test_on_two_grids_each_has_its_own(distiller: Recipe) -> None:
    student, teacher = rows_of_both(distiller(voxel=0.8))
    with pytest.raises(ValueError, match=r'0\.4 x 0\.4 x 4 m .* 0\.8 x 0\.8 x 4 m'):
        require_same_rows(student, teacher)


def test_a_step_trains_the_student_and_spares_the_teacher(distiller: Recipe) -> None:
    model = distiller().train()
    outputs = model.train_step(lidar_batch([0, 1]))
    outputs['loss'].backward()
    assert outputs['log_vars']['loss_kd_feature_l2'] > 0
    assert outputs['num_samples'] == 2
    assert model.student.voxel_encoder.pfn_layers[0].linear.weight.grad.abs().sum() > 0
    model.teacher.require_unchanged()


def test_voxels_are_not_shared_with_a_twin_of_its_own_points(distiller: Recipe) -> None:
    model, batch = distiller(), lidar_batch([0])
    batch['teacher_points'] = lidar_batch([1])['points']
    assert VOXELS not in model.adapter.share_inputs(model.student, model.teacher.model, batch)

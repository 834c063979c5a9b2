"""What a graph computes, run by torch: toy detectors beside their own results; no onnx is needed."""

import warnings
from typing import Any

import pytest
import torch
from mmcv import Config
from torch import nn

from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.engine.deploy.export_onnx import trace
from projects.mmdet3d_plugin.engine.deploy.hosts.pillars import voxelise
from projects.mmdet3d_plugin.engine.deploy.onnx_host import host_of
from projects.mmdet3d_plugin.hosts.bevdepth.camera_matrices import inverse_3x3
from projects.mmdet3d_plugin.ops.gather_maps import FeatureMaps, gather_all, gather_seen
from projects.mmdet3d_plugin.ops.lift_splat import lift_splat, lift_splat_rows
from tests.factories import frame_batch, pint_detr3d
from tests.lidar_factories import centerpoint_config, fresh, mvx_config, one_view, pillar_config
from tests.ops.test_lift_splat import SIZE, make_case

PILLARS = {'PointPillars': pillar_config(), 'CenterPoint': centerpoint_config(), 'MVX': mvx_config()}


def detector(cfg: dict[str, Any]) -> nn.Module:
    """A toy detector that finds something: branches of random weights."""
    torch.manual_seed(0)
    model = build_model(Config(dict(model=fresh(cfg))).model)
    model.init_weights()
    for name, parameter in model.named_parameters():
        if 'task_heads' in name or 'conv_cls' in name or 'conv_dir' in name:
            nn.init.normal_(parameter, std=0.5)
    return model.eval()


@pytest.mark.parametrize('kind', PILLARS)
@torch.no_grad()
def test_pillars_give_what_the_detector_gives(kind: str) -> None:
    model, batch = detector(PILLARS[kind]), one_view([3])
    (expected,) = model(return_loss=False, **batch)
    expected = expected.get('pts_bbox', expected)
    host = host_of(type(model).__name__)
    host.prepare(model)
    feed = voxelise(host.about(model)['voxels'], batch['points'][0][0])
    boxes, scores, labels = host.compute(model, *map(torch.from_numpy, feed.values()))
    assert len(scores) > 3
    assert torch.equal(labels, expected['labels_3d'].long())
    torch.testing.assert_close(scores, expected['scores_3d'])
    found = torch.cat([expected['boxes_3d'].gravity_center, expected['boxes_3d'].tensor[:, 3:]], 1)
    torch.testing.assert_close(boxes, found, atol=1e-4, rtol=0)
    none = voxelise(host.about(model)['voxels'], batch['points'][0][0][:0])
    assert not len(host.compute(model, *map(torch.from_numpy, none.values()))[1])


@pytest.mark.parametrize('kind', PILLARS)
def test_torch_makes_no_remarks_about_graphs(kind: str) -> None:
    """Nobody who exports could do anything about them."""
    pytest.importorskip('onnx', reason='onnx is an optional extra: requirements/onnx.txt')
    model, batch = detector(PILLARS[kind]), one_view([3])
    host = host_of(type(model).__name__)
    host.prepare(model)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        assert trace(host, model, host.example(model, dict(points=batch['points'][0])))
    assert not [remark for remark in said if 'torch/onnx' in remark.filename]


@torch.no_grad()
def test_detr3d_gives_what_the_detector_gives_frame_by_frame() -> None:
    model, batch = pint_detr3d(), frame_batch([0, 1])
    expected = model(return_loss=False, img=batch['img'], img_metas=batch['img_metas'])
    lidar2img = torch.stack([torch.from_numpy(queue[-1]['lidar2img']) for queue in batch['img_metas']])
    boxes, scores, _, frames = host_of('DETR3D').compute(model, batch['img'][:, -1], lidar2img.float())
    for i, result in enumerate(expected):
        torch.testing.assert_close(scores[frames == i], result['scores_3d'])
        centres = boxes[frames == i, :3]
        torch.testing.assert_close(centres, result['boxes_3d'].gravity_center, atol=1e-4, rtol=0)


def test_all_look_ups_equal_those_that_are_seen() -> None:
    """In float64, with places far outside where nothing is seen."""
    torch.manual_seed(0)
    maps = FeatureMaps([torch.randn(6, 5, *size).double() for size in ((4, 6), (2, 3))])
    seen = torch.rand(2, 7, 3) < 0.6
    places = torch.rand(2, 7, 3, 2).double()
    places[~seen] = float('inf')
    weights = torch.rand(2, 7, 3, 2).double()
    torch.testing.assert_close(
        gather_all(maps, places, weights, seen), gather_seen(maps, places, weights, seen)
    )


@pytest.mark.parametrize('truncate', [False, True])
def test_rows_of_cells_equal_the_pooling_operator(truncate: bool) -> None:
    case = make_case()
    torch.testing.assert_close(lift_splat_rows(*case, SIZE, truncate), lift_splat(*case, SIZE, truncate))


def test_inverse_by_cofactors() -> None:
    matrix = torch.randn(5, 2, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(inverse_3x3(matrix), torch.linalg.inv(matrix))


def test_what_cannot_be_written_is_said() -> None:
    with pytest.raises(ValueError, match='Gist cannot be written as ONNX; what can is BEVDepth, BEVDet, '):
        host_of('Gist')
    host, model = host_of('VoxelNet'), nn.Module()
    model.middle_encoder = nn.Identity()
    with pytest.raises(ValueError, match='sparse convolutions; pillars'):
        host.prepare(model)

"""BEVFormer's decoder on a LiDAR detector's BEV feature."""

from typing import Any

import pytest
import torch
from mmcv import ConfigDict
from mmdet.models import build_head
from torch import nn

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.hosts.lidarformer.config_check import check_lidarformer
from tests.lidar_factories import emptied, lidar_batch, lidarformer_config, total


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    model = build_model(ConfigDict(lidarformer_config()))
    model.init_weights()
    return model


def found(model: nn.Module, batch: dict[str, Any]) -> list[dict[str, Any]]:
    with torch.no_grad():
        results = model(return_loss=False, points=[batch['points']], img_metas=[batch['img_metas']])
    return [result['pts_bbox'] for result in results]


def test_voxels_will_do_as_well_as_pillars() -> None:
    model = build_model(ConfigDict(lidarformer_config(sparse=True)))
    model.init_weights()
    assert total(model.train().forward_train(**lidar_batch([0, 1], 9))).isfinite()
    assert len(found(model.eval(), lidar_batch([0], 9))[0]['scores_3d']) > 0


@pytest.mark.parametrize('empty', [[], [0], [0, 1]])
def test_losses_reach_every_weight(model: nn.Module, empty: list[int]) -> None:
    losses = model.train().forward_train(**emptied(lidar_batch([0, 1], 9), empty))
    assert {'loss_cls', 'd0.loss_bbox', 'dense.loss_heatmap'} <= set(losses)
    total(losses).backward()
    taught = {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}
    idle = [name for name, grad in taught.items() if grad is None]
    assert all('.reference_points.' in name for name in idle)  # proposals take their place
    assert all(grad.isfinite().all() for name, grad in taught.items() if name not in idle)
    assert (taught['pts_voxel_encoder.pfn_layers.0.linear.weight'].abs().sum() > 0) == (len(empty) < 2)


def test_a_batch_of_two_equals_two_of_one(model: nn.Module) -> None:
    batch = lidar_batch([0, 1], 9)
    together = found(model.eval(), batch)
    for i, two in enumerate(together):
        one = found(model, {key: value[i : i + 1] for key, value in batch.items()})[0]
        assert len(two['scores_3d']) > 0
        torch.testing.assert_close(two['scores_3d'], one['scores_3d'])
        torch.testing.assert_close(two['boxes_3d'].tensor, one['boxes_3d'].tensor)


def test_nothing_is_found_where_no_point_is(model: nn.Module) -> None:
    counts = [len(one['scores_3d']) for one in found(model.eval(), emptied(lidar_batch([0, 1], 9), [1]))]
    assert counts[0] > 0
    assert counts[1] == 0


def test_rows_of_the_bev_feature_run_along_y(model: nn.Module) -> None:
    """A marked cell of the neck's map is the same row and column of what the decoder reads."""
    level = torch.zeros(1, 16, 16, 16)
    blank = model.bev([level])[0]
    level[0, :, 11, 3] = torch.arange(16.0)
    changed = (model.bev([level])[0] != blank).any(-1)
    assert changed.nonzero().flatten().tolist() == [11 * 16 + 3]


def test_its_head_is_bevformers_without_an_encoder(model: nn.Module) -> None:
    head = lidarformer_config()['pts_bbox_head']
    encoder = dict(num_layers=1, num_heads=4, num_levels=1, num_points=2, num_points_in_pillar=2)
    seeing = dict(head['transformer'], num_cams=2, encoder=encoder)
    theirs = build_head(ConfigDict(dict(head, type='BEVFormerHead', transformer=seeing))).state_dict()
    mine = model.pts_bbox_head.state_dict()
    assert {name: value.shape for name, value in mine.items()}.items() <= {
        name: value.shape for name, value in theirs.items()
    }.items()
    assert {name.split('.')[0] for name in theirs.keys() - mine.keys()} == {
        'bev_embedding', 'positional_encoding', 'transformer',
    }  # fmt: skip
    with pytest.raises(ValueError, match='leave the encoder out'):
        build_head(ConfigDict(dict(head, transformer=seeing)))
    with pytest.raises(ValueError, match='num_cams'):
        build_head(ConfigDict(dict(head, type='BEVFormerHead', transformer=dict(seeing, num_cams=None))))


def test_a_map_of_another_size_is_refused() -> None:
    cfg = lidarformer_config()
    cfg['pts_bbox_head']['bev_h'] = 8
    batch = lidar_batch([0], 9)
    with pytest.raises(UserError, match=r'16 x 16 cells.*bev_h and bev_w say 8 x 16'):
        build_model(ConfigDict(cfg)).forward_train(**batch)


def test_other_heads_and_necks_are_refused() -> None:
    cfg = lidarformer_config()
    head = dict(cfg['pts_bbox_head'], type='BEVFormerHead')
    with pytest.raises(UserError, match='must be a BEVDecoderHead, not a BEVFormerHead'):
        build_model(ConfigDict(dict(cfg, pts_bbox_head=head)))
    fpn = dict(type='FPN', in_channels=[8, 16], out_channels=8, num_outs=2)
    for neck in (fpn, None):
        with pytest.raises(UserError, match='pts_neck must be a SECONDFPN'):
            build_model(ConfigDict(dict(cfg, pts_neck=neck)))


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('img_backbone', dict(type='ResNet', depth=18)), ('pts_bbox_head.bev_geometry', True),
        ('pts_bbox_head.transformer.num_cams', 6), ('pts_bbox_head.transformer.legacy', ['shift']),
        ('pts_bbox_head.transformer.encoder', dict(num_layers=1)),
    ],
)  # fmt: skip
def test_what_nothing_would_use_is_refused(key: str, value: Any) -> None:
    cfg = load_config('lidarformer_near_teacher.py')
    cfg.merge_from_dict({f'model.{key}': value})
    with pytest.raises(UserError, match=rf'model\.{key} .*leave it out'):
        check_lidarformer(cfg)


def test_a_canvas_that_strides_do_not_divide_is_left_to_the_detector() -> None:
    cfg = load_config('lidarformer_near_teacher.py')
    cfg.merge_from_dict({
        'model.pts_middle_encoder.output_shape': [161, 161],
        'model.pts_voxel_layer.voxel_size': [51.2 / 161, 51.2 / 161, 8],
        'model.pts_voxel_encoder.voxel_size': [51.2 / 161, 51.2 / 161, 8],
    })  # fmt: skip
    check_lidarformer(cfg)


@pytest.mark.parametrize('name', ['lidarformer_pillar_nuscenes.py', 'lidarformer_near_teacher.py'])
@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('pts_bbox_head.num_classes', 3), ('pts_bbox_head.pc_range', [-10.0, -10, -5, 10, 10, 3]),
        ('pts_bbox_head.bev_w', 50), ('pts_neck.in_channels', [1, 2]), ('pts_middle_encoder.output_shape', [9, 9]),
        ('pts_bbox_head.transformer.decoder.num_heads', 7), ('pts_bbox_head.code_weights', [1.0]),
        ('pts_bbox_head.bbox_coder.max_num', 100000),
    ],
)  # fmt: skip
def test_numbers_that_disagree_are_named(name: str, key: str, value: Any) -> None:
    cfg = load_config(name)
    check_lidarformer(cfg)
    cfg.merge_from_dict({f'model.{key}': value})
    with pytest.raises(UserError, match=key.split('.')[-1]):
        check_lidarformer(cfg)

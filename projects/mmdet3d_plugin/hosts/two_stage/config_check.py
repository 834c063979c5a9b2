"""Which numbers of a detector with a second stage must agree, beside those of its first."""

from typing import Any

from projects.mmdet3d_plugin.common.config_checks.check import CONFIG_CHECKS, require_equal
from projects.mmdet3d_plugin.common.config_checks.numbers import value_at
from projects.mmdet3d_plugin.hosts.lidar.config_check import check_center_point, check_voxel_net


@CONFIG_CHECKS.register_module(name='TwoStageVoxelNet')
def check_two_stage_voxel_net(cfg: dict[str, Any]) -> None:
    """TwoStageVoxelNet: its first stage, and one range for both."""
    check_voxel_net(cfg)
    _check_ranges(cfg, 'model.voxel_layer.point_cloud_range')


@CONFIG_CHECKS.register_module(name='TwoStageCenterPoint')
def check_two_stage_center_point(cfg: dict[str, Any]) -> None:
    """TwoStageCenterPoint: its first stage, and one range for both."""
    check_center_point(cfg)
    _check_ranges(cfg, 'model.pts_voxel_layer.point_cloud_range')


def _check_ranges(cfg: dict[str, Any], where: str) -> None:
    """What samples maps knows what they cover."""
    features = value_at(cfg, 'model.roi_head.features')
    for index, part in enumerate(features if isinstance(features, (list, tuple)) else ()):
        place = f'model.roi_head.features[{index}].pc_range'
        require_equal('range', (where, value_at(cfg, where)), (place, part.get('pc_range')))

"""Which numbers of a config of BEVDepth, or of the BEVDet family, must agree."""

import math
from typing import Any

from projects.mmdet3d_plugin.common.config_checks.check import (
    CONFIG_CHECKS,
    data_ranges,
    datasets_of,
    require_equal,
    transforms_of,
)
from projects.mmdet3d_plugin.common.config_checks.numbers import value_at
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.hosts.center_config_check import check_cells, check_tasks

PAD_DIVISOR = 32  # what ImageView pads to unless it is told otherwise


@CONFIG_CHECKS.register_module(name='BEVDepth')
def check_bevdepth(cfg: dict[str, Any]) -> None:
    """Compare head, backbone and data.

    Raises:
        UserError: names the places that disagree and their values.
    """
    lift, head = 'model.backbone.lift_splat', 'model.head'
    require_equal(
        'range',
        _at(cfg, f'{lift}.pc_range'),
        _at(cfg, 'model.train_cfg.point_cloud_range'),
        *data_ranges(cfg),
    )
    _check_images(cfg, f'{lift}.image_size')
    _check_heads(cfg, head, lift)
    channels, frames = _at(cfg, 'model.backbone.out_channels')[1], _at(cfg, 'model.num_frames')[1] or 1
    if channels is not None:
        joined = (f'model.backbone.out_channels times model.num_frames={frames}', channels * frames)
        where, inputs = _at(cfg, f'{head}.neck.in_channels')
        require_equal('channels', joined, _at(cfg, f'{head}.trunk.in_channels'))
        require_equal('channels', joined, (f'{where}[0]', inputs and inputs[0]))


@CONFIG_CHECKS.register_module(name='BEVDet')
def check_bevdet(cfg: dict[str, Any]) -> None:
    """Compare head, view transformer and data; the map takes in more height than boxes are learnt in.

    Raises:
        UserError: names the places that disagree and their values.
    """
    lift = 'model.img_view_transformer.lift_splat'
    where, limits = _at(cfg, f'{lift}.pc_range')
    flat = [
        (place, value and [*value[:2], *value[3:5]]) for place, value in ((where, limits), *data_ranges(cfg))
    ]
    require_equal('range seen from above', *flat)
    require_equal('range', _at(cfg, 'model.train_cfg.point_cloud_range'), *data_ranges(cfg))
    _check_images(cfg, f'{lift}.image_size')
    _check_heads(cfg, 'model.pts_bbox_head', lift)
    require_equal(
        'channels',
        _at(cfg, 'model.img_neck.out_channels'),
        _at(cfg, 'model.img_view_transformer.in_channels'),
    )


def _at(cfg: dict[str, Any], path: str) -> tuple[str, Any]:
    return path, value_at(cfg, path)


def _check_images(cfg: dict[str, Any], path: str) -> None:
    """The pipelines give images of the size that the frustum was made for, as far as they say one."""
    wanted = value_at(cfg, path)
    for place, dataset in datasets_of(cfg):
        for where, view in transforms_of(dataset.get('pipeline'), f'{place}.pipeline'):
            key = next((key for key in ('crop', 'size') if view.get(key) is not None), None)
            if view.get('type') != 'ImageView' or view.get('name') or key is None or wanted is None:
                continue
            divisor = view.get('pad_divisor', PAD_DIVISOR)
            padded = [math.ceil(side / divisor) * divisor for side in view[key]]
            require_equal(
                '(width, height) of the images',
                (f'{path}, turned around,', list(wanted)[::-1]),
                (f'{where}.{key}, padded to multiples of {divisor},', padded),
            )


def _check_heads(cfg: dict[str, Any], head: str, lift: str) -> None:
    """Tasks have the classes of the data, and a heatmap the cells of the map."""
    check_tasks(cfg, *_at(cfg, f'{head}.tasks'))
    for part in (f'{head}.bbox_coder', 'model.train_cfg', 'model.test_cfg'):
        factor, voxel = _at(cfg, f'{part}.out_size_factor')[1], _at(cfg, f'{part}.voxel_size')[1]
        if factor is not None and voxel is not None:
            metres = (f'{part}.out_size_factor times voxel_size', round(factor * voxel[0], 6))
            require_equal('cell', _at(cfg, f'{lift}.cell'), metres)
    parts = [
        lambda key, part=part: _at(cfg, f'{part}.{key}')
        for part in (head, 'model.train_cfg', 'model.test_cfg')
    ]
    extent, size = (_at(cfg, f'model.train_cfg.{key}') for key in ('point_cloud_range', 'voxel_size'))
    check_cells(extent, size, ('', None), *parts)
    if cfg.get('optimizer') and not value_at(cfg, 'model.train_cfg'):
        raise UserError('model.train_cfg is missing, and this config has an optimizer')

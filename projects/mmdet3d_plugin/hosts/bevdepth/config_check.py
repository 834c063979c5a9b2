"""Which numbers of a BEVDepth config must agree."""

from typing import Any

from projects.mmdet3d_plugin.common.config_check import (
    CONFIG_CHECKS,
    data_ranges,
    require_equal,
)
from projects.mmdet3d_plugin.common.config_numbers import value_at
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.hosts.center_config_check import check_cells, check_tasks

_HEAD = 'model.head'
_LIFT = 'model.backbone.lift_splat'


@CONFIG_CHECKS.register_module(name='BEVDepth')
def check_bevdepth(cfg: dict[str, Any]) -> None:
    """Compare head, backbone and data.

    Raises:
        UserError: names the places that disagree and their values.
    """

    def at(path: str) -> tuple[str, Any]:
        return path, value_at(cfg, path)

    require_equal(
        'range', at(f'{_LIFT}.pc_range'), at('model.train_cfg.point_cloud_range'), *data_ranges(cfg)
    )
    check_tasks(cfg, *at(f'{_HEAD}.tasks'))
    channels, frames = at('model.backbone.out_channels')[1], at('model.num_frames')[1] or 1
    if channels is not None:
        joined = (f'model.backbone.out_channels times model.num_frames={frames}', channels * frames)
        where, inputs = at(f'{_HEAD}.neck.in_channels')
        require_equal('channels', joined, at(f'{_HEAD}.trunk.in_channels'))
        require_equal('channels', joined, (f'{where}[0]', inputs and inputs[0]))
    for part in ('model.head.bbox_coder', 'model.train_cfg', 'model.test_cfg'):
        factor, voxel = at(f'{part}.out_size_factor')[1], at(f'{part}.voxel_size')[1]
        if factor is not None and voxel is not None:
            metres = (f'{part}.out_size_factor times voxel_size', round(factor * voxel[0], 6))
            require_equal('cell', at(f'{_LIFT}.cell'), metres)
    head, train, test = (
        lambda key, part=part: at(f'{part}.{key}') for part in (_HEAD, 'model.train_cfg', 'model.test_cfg')
    )
    check_cells(at(f'{_LIFT}.pc_range'), train('voxel_size'), ('', None), head, train, test)
    if cfg.get('optimizer') and not value_at(cfg, 'model.train_cfg'):
        raise UserError('model.train_cfg is missing, and this config has an optimizer')

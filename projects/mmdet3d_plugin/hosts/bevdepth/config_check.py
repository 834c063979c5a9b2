"""Which numbers of a BEVDepth config must agree."""

from typing import Any

from projects.mmdet3d_plugin.common.config_check import (
    CONFIG_CHECKS,
    data_ranges,
    number_of_classes,
    require_equal,
)
from projects.mmdet3d_plugin.common.config_numbers import value_at

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
    where, tasks = at(f'{_HEAD}.tasks')
    if tasks is not None:
        named = (f'the classes of {where}', sum(task['num_class'] for task in tasks))
        require_equal('number of classes', named, number_of_classes(cfg))
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

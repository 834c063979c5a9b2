"""Which numbers of a LidarFormer config must agree."""

from typing import Any

from projects.mmdet3d_plugin.common.config_checks.check import (
    CONFIG_CHECKS,
    number_of_classes,
    require_equal,
)
from projects.mmdet3d_plugin.common.config_checks.numbers import At, reader
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.hosts.bevformer.config_check import check_attention
from projects.mmdet3d_plugin.hosts.detr.config_check import check_queries
from projects.mmdet3d_plugin.hosts.lidar.config_check import check_channels, check_grid, heatmap_stride

_HEAD = 'model.pts_bbox_head'
_UNUSED = (
    *('model.img_backbone', 'model.img_neck', f'{_HEAD}.bev_geometry'),
    *(f'{_HEAD}.transformer.{key}' for key in ('encoder', 'num_cams', 'legacy')),
)


@CONFIG_CHECKS.register_module(name='LidarFormer')
def check_lidarformer(cfg: dict[str, Any]) -> None:
    """Compare classes, ranges, voxels, cells, channels and queries.

    Raises:
        UserError: names the places that disagree and their values.
    """
    at = reader(cfg)
    points_at = reader(cfg, 'model.pts_')
    _refuse_what_sees_images(at)
    require_equal('number of classes', at(f'{_HEAD}.num_classes'), number_of_classes(cfg))
    require_equal('range', at(f'{_HEAD}.pc_range'), points_at('voxel_layer.point_cloud_range'))
    check_grid(cfg, points_at)
    check_channels(cfg, points_at, 'bbox_head')
    _check_cells(at, points_at)
    check_queries(at)
    check_attention(at, ('decoder',))


def _refuse_what_sees_images(at: At) -> None:
    """What a BEVFormer's config has and nothing here would use."""
    for path in _UNUSED:
        place, value = at(path)
        if value:
            raise UserError(
                f'{place} is {value!r}, and a LidarFormer has no images and no encoder to use it: leave it out'
            )


def _check_cells(at: At, points_at: At) -> None:
    """The decoder is made for the cells that the neck gives."""
    canvas, (_, stride) = points_at('middle_encoder.output_shape')[1], heatmap_stride(points_at)
    if canvas is None or stride is None or any(cells % stride for cells in canvas):
        return  # where they do not divide, the padding of convolutions decides, and the detector's own message tells
    for axis, key in enumerate(('bev_h', 'bev_w')):
        shown = f'cells of the neck along {"yx"[axis]}', canvas[axis] // stride
        require_equal('cells', shown, at(f'{_HEAD}.{key}'))

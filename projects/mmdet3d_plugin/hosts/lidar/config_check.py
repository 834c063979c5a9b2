"""Which numbers of a LiDAR detector's config must agree: classes, anchors, ranges, grids and channels."""

from typing import Any

import numpy as np

from projects.mmdet3d_plugin.common.config_checks.check import (
    CONFIG_CHECKS,
    data_ranges,
    datasets_of,
    number_of_classes,
    require_equal,
    transforms_of,
)
from projects.mmdet3d_plugin.common.config_checks.numbers import At, reader, value_at
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.hosts.center_config_check import check_cells, check_tasks

_RANGED = ('PointsRangeFilter', 'ObjectRangeFilter')
TOLERANCE = 1e-6  # metres


@CONFIG_CHECKS.register_module(name='VoxelNet')
def check_voxel_net(cfg: dict[str, Any]) -> None:
    """VoxelNet (SECOND, PointPillars): anchors for every class, one grid, channels that pass on."""
    at = reader(cfg, 'model.')
    _check_training(cfg)
    _check_anchor_head(cfg, at, 'bbox_head', 'train_cfg')
    check_grid(cfg, at)
    check_channels(cfg, at, 'bbox_head')


@CONFIG_CHECKS.register_module(name='MVXTwoStageDetector')
def check_mvx(cfg: dict[str, Any]) -> None:
    """mmdet3d's detectors of several modalities, their LiDAR branch."""
    at = reader(cfg, 'model.pts_')
    _check_training(cfg)
    _check_anchor_head(cfg, at, 'bbox_head', None)
    check_grid(cfg, at)
    check_channels(cfg, at, 'bbox_head')


@CONFIG_CHECKS.register_module(name='CenterPoint')
def check_center_point(cfg: dict[str, Any]) -> None:
    """CenterPoint: tasks that together are the classes, and one grid in head, coder, training and testing."""
    at = reader(cfg, 'model.pts_')
    _check_training(cfg)
    check_tasks(cfg, *at('bbox_head.tasks'))
    check_grid(cfg, at)
    check_channels(cfg, at, 'bbox_head')
    train, test = reader(cfg, 'model.train_cfg.pts.'), reader(cfg, 'model.test_cfg.pts.')
    head = reader(cfg, 'model.pts_bbox_head.')
    extent, size = at('voxel_layer.point_cloud_range'), at('voxel_layer.voxel_size')
    check_cells(extent, size, heatmap_stride(at), head, train, test)


@CONFIG_CHECKS.register_module(name='PointRCNN')
def check_point_rcnn(cfg: dict[str, Any]) -> None:
    """PointRCNN: first stage, mean sizes and assigners, each for every class."""
    at = reader(cfg, 'model.')
    classes = number_of_classes(cfg)
    sizes, assigners = at('rpn_head.bbox_coder.mean_size'), at('train_cfg.rcnn.assigner')
    require_equal('number of classes', classes, at('rpn_head.num_classes'), _count(sizes), _count(assigners))


def _count(place: tuple[str, Any]) -> tuple[str, Any]:
    """The length of a list, with words for it."""
    path, value = place
    return f'the number of {path}', len(value) if isinstance(value, (list, tuple)) else None


def _check_training(cfg: dict[str, Any]) -> None:
    """Heads are built without assigners, and fail in their first loss, where a config that trains lacks train_cfg."""
    if cfg.get('optimizer') and not value_at(cfg, 'model.train_cfg'):
        raise UserError(
            'model.train_cfg is missing, and this config has an optimizer: training needs its assigners'
        )


def _check_anchor_head(cfg: dict[str, Any], at: At, head: str, train_cfg: str | None) -> None:
    """Classes, anchors and assigners count alike; anchors lie where the points are."""
    require_equal('number of classes', at(f'{head}.num_classes'), number_of_classes(cfg))
    sizes, ranges = at(f'{head}.anchor_generator.sizes'), at(f'{head}.anchor_generator.ranges')
    assigners = ('', None) if train_cfg is None else at(f'{train_cfg}.assigner')
    if isinstance(assigners[1], (list, tuple)):  # one for each class, so anchors are of classes too
        require_equal('number of classes', at(f'{head}.num_classes'), _count(sizes), _count(assigners))
    if ranges[1] is not None and len(ranges[1]) != 1:
        require_equal('number of anchors', _count(sizes), _count(ranges))
    extent = at('voxel_layer.point_cloud_range')
    for index, bounds in enumerate(ranges[1] or ()):
        if extent[1] is not None and len(bounds) == 6:
            where = f'x and y of {ranges[0]}[{index}]'
            require_equal('range', (f'x and y of {extent[0]}', _flat(extent[1])), (where, _flat(bounds)))


def _flat(bounds: Any) -> list[float]:
    """x0, y0, x1, y1 of a range."""
    return [bounds[0], bounds[1], bounds[3], bounds[4]]


def check_grid(cfg: dict[str, Any], at: At) -> None:
    """Voxel layer, encoder, data and transforms see one range; the canvas has as many cells as voxels fit into it.

    Args:
        cfg: the whole config.
        at: path below the detector's prefix -> (whole path, value).

    Raises:
        UserError: names the places that disagree and their values.
    """
    extent, size = at('voxel_layer.point_cloud_range'), at('voxel_layer.voxel_size')
    if extent[1] is None or size[1] is None:
        return
    if len(size[1]) != 3:
        raise UserError(f'{size[0]} is {size[1]}: it must be three numbers, metres along x, y and z')
    require_equal('range', extent, at('voxel_encoder.point_cloud_range'), *data_ranges(cfg))
    _check_filters(cfg, *extent)
    require_equal('voxel size', size, at('voxel_encoder.voxel_size'))
    cells = (np.array(extent[1][3:]) - extent[1][:3]) / size[1]
    x, y, z = (round(count) for count in cells)
    shown = ('the range over the voxel size', [y, x])
    require_equal('cells (y, x)', shown, at('middle_encoder.output_shape'))
    where, sparse = at('middle_encoder.sparse_shape')
    if sparse is not None:
        require_equal(
            'cells (z + 1, y, x)', ('the range over the voxel size', [z + 1, y, x]), (where, sparse)
        )


def _check_filters(cfg: dict[str, Any], where: str, extent: list[float]) -> None:
    """Transforms may keep points and boxes beyond the voxels, but not cut those within."""
    inner = np.array(extent, dtype=float)
    for place, dataset in datasets_of(cfg):
        for step, transform in transforms_of(dataset.get('pipeline'), f'{place}.pipeline'):
            kept = transform.get('point_cloud_range')
            if transform.get('type') not in _RANGED or kept is None:
                continue
            outer = np.array(kept, dtype=float)
            low, high = outer[:3] <= inner[:3] + TOLERANCE, outer[3:] >= inner[3:] - TOLERANCE
            if not (low.all() and high.all()):
                raise UserError(
                    f'{step}.point_cloud_range is {list(kept)}: it cuts away a part of {where}, {list(extent)}'
                )


def check_channels(cfg: dict[str, Any], at: At, head: str) -> None:
    """What one part gives, the next one takes.

    Args:
        cfg: the whole config.
        at: path below the detector's prefix -> (whole path, value).
        head: path of the head's config, whose in_channels are checked where it has any.

    Raises:
        UserError: names the places that disagree and their values.
    """
    features = at('voxel_encoder.in_channels')
    if at('voxel_encoder.type')[1] == 'HardSimpleVFE':
        features = at('voxel_encoder.num_features')
        require_equal('numbers per point', (features[0], features[1] or 4), at('middle_encoder.in_channels'))
    require_equal('numbers per point', features, *_point_numbers(cfg))
    widths = at('voxel_encoder.feat_channels')
    last = (f'the last of {widths[0]}', widths[1][-1] if isinstance(widths[1], (list, tuple)) else None)
    require_equal('channels', last, at('middle_encoder.in_channels'))
    if at('middle_encoder.type')[1] == 'PointPillarsScatter':
        require_equal('channels', at('middle_encoder.in_channels'), at('backbone.in_channels'))
    for key in ('layer_nums', 'layer_strides'):
        require_equal('stages', _count(at('backbone.out_channels')), _count(at(f'backbone.{key}')))
    require_equal('channels', at('backbone.out_channels'), at('neck.in_channels'))
    given = at('neck.out_channels')
    if isinstance(given[1], (list, tuple)):
        require_equal(
            'levels', _count(given), _count(at('neck.upsample_strides')), _count(at('neck.in_channels'))
        )
        given = f'the sum of {given[0]}', sum(given[1])
    require_equal('channels', given, at(f'{head}.in_channels'))


def _point_numbers(cfg: dict[str, Any]) -> list[tuple[str, int | None]]:
    """(place, numbers per point) of what loads the points last, for every dataset."""
    found = []
    for place, dataset in datasets_of(cfg):
        for where, transform in transforms_of(dataset.get('pipeline'), f'{place}.pipeline'):
            used = transform.get('use_dim')
            if used is not None and 'load_dim' in transform:
                found.append((f'{where}.use_dim', len(used) if isinstance(used, (list, tuple)) else used))
    return found


def heatmap_stride(at: At) -> tuple[str, int | None]:
    """Voxels per cell of the neck's map where a canvas of pillars goes through strides only; None for others."""
    strides, ups = at('backbone.layer_strides')[1], at('neck.upsample_strides')[1]
    if at('middle_encoder.type')[1] != 'PointPillarsScatter' or not strides or not ups:
        return '', None
    return 'strides of backbone and neck', round(strides[0] / ups[0])

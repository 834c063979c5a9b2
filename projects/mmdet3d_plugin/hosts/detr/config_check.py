"""Which numbers of a config must agree in every detector with object queries on images."""

from typing import Any

from projects.mmdet3d_plugin.box_codec import CODE_SIZE
from projects.mmdet3d_plugin.common.config_checks.check import data_ranges, number_of_classes, require_equal
from projects.mmdet3d_plugin.common.config_checks.numbers import At, reader
from projects.mmdet3d_plugin.common.errors import UserError

_HEAD = 'model.pts_bbox_head'


def check_camera_detector(cfg: dict[str, Any]) -> None:
    """Compare head, neck, backbone and data.

    Raises:
        UserError: names the places that disagree and their values.
    """
    at = reader(cfg)
    require_equal('number of classes', at(f'{_HEAD}.num_classes'), number_of_classes(cfg))
    require_equal('range', at(f'{_HEAD}.pc_range'), *data_ranges(cfg))
    require_equal('channels', at(f'{_HEAD}.transformer.embed_dims'), at('model.img_neck.out_channels'))
    check_backbone(at, 'model.img_backbone', 'model.img_neck')
    check_queries(at)


def check_backbone(at: At, backbone: str, neck: str) -> None:
    """The neck takes as many levels, and as many channels, as the backbone gives.

    Args:
        at: path -> (path, value).
        backbone: path of the backbone's config.
        neck: path of the neck's.

    Raises:
        UserError: names the places that disagree and their values.
    """
    outs, ins = at(f'{backbone}.out_indices'), at(f'{neck}.in_channels')
    if outs[1] is None or not isinstance(ins[1], (list, tuple)):
        return
    require_equal(
        'levels', (f'the number of {outs[0]}', len(outs[1])), (f'the number of {ins[0]}', len(ins[1]))
    )
    depth = at(f'{backbone}.depth')[1]
    if at(f'{backbone}.type')[1] == 'ResNet' and depth is not None:
        width = (at(f'{backbone}.base_channels')[1] or 64) * (4 if depth >= 50 else 1)
        require_equal('channels', (backbone, [width * 2**i for i in outs[1]]), ins)


def check_queries(at: At) -> None:
    """There are as many scores as boxes are kept, and a weight for every number of a box.

    Args:
        at: path -> (path, value).

    Raises:
        UserError: names the places that disagree and their values.
    """
    queries, classes = at(f'{_HEAD}.num_query')[1], at(f'{_HEAD}.num_classes')[1]
    where, kept = at(f'{_HEAD}.bbox_coder.max_num')
    if None not in (queries, classes, kept) and kept > queries * classes:
        raise UserError(
            f'{where} is {kept}: {_HEAD}.num_query={queries} with {classes} classes give only {queries * classes} boxes'
        )
    where, weights = at(f'{_HEAD}.code_weights')
    if weights is not None and len(weights) != CODE_SIZE:
        raise UserError(f'{where} has {len(weights)} numbers: it must have {CODE_SIZE}')

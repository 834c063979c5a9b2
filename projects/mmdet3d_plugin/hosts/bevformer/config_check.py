"""Which numbers of a BEVFormer config must agree."""

from collections.abc import Sequence
from typing import Any

from projects.mmdet3d_plugin.common.config_checks.check import CONFIG_CHECKS, require_equal
from projects.mmdet3d_plugin.common.config_checks.numbers import At, reader, value_at
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.hosts.detr.config_check import check_camera_detector

_HEAD = 'model.pts_bbox_head'
_TRANSFORMER = f'{_HEAD}.transformer'
_HEADS_BY_DEFAULT = 8


@CONFIG_CHECKS.register_module(name='BEVFormer')
def check_bevformer(cfg: dict[str, Any]) -> None:
    """Compare head, transformer, neck, backbone and data.

    Raises:
        UserError: names the places that disagree and their values.
    """
    at = reader(cfg)
    check_camera_detector(cfg)
    if value_at(cfg, f'{_TRANSFORMER}.type') == 'PerceptionTransformer' and not value_at(
        cfg, f'{_TRANSFORMER}.encoder'
    ):
        raise UserError(f'{_TRANSFORMER}.encoder is missing: a BEVFormer makes its BEV feature with one')
    require_equal('levels', at(f'{_TRANSFORMER}.encoder.num_levels'), at('model.img_neck.num_outs'))
    check_attention(at, ('encoder', 'decoder'))


def check_attention(at: At, parts: Sequence[str]) -> None:
    """Heads share out the channels evenly; positions take half of them each.

    Args:
        at: path -> (path, value).
        parts: of the transformer, which have attention.

    Raises:
        UserError: names the places that disagree and their values.
    """
    place, dims = at(f'{_TRANSFORMER}.embed_dims')
    if dims is None:
        return
    for part in parts:
        where, heads = at(f'{_TRANSFORMER}.{part}.num_heads')
        if dims % (heads or _HEADS_BY_DEFAULT):
            raise UserError(
                f'{where} is {heads or _HEADS_BY_DEFAULT}: {place}={dims} must be a multiple of it'
            )
    if dims % 2:
        raise UserError(f'{place} is {dims}: it must be even')

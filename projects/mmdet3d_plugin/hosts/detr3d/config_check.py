"""Which numbers of a DETR3D config must agree."""

from typing import Any

from projects.mmdet3d_plugin.common.config_checks.check import CONFIG_CHECKS, require_equal
from projects.mmdet3d_plugin.common.config_checks.numbers import value_at
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.hosts.detr.config_check import check_camera_detector

_TRANSFORMER = 'model.pts_bbox_head.transformer'
_HEADS_BY_DEFAULT = 8


@CONFIG_CHECKS.register_module(name='DETR3D')
def check_detr3d(cfg: dict[str, Any]) -> None:
    """Compare head, transformer, neck, backbone and data.

    Raises:
        UserError: names the places that disagree and their values.
    """
    check_camera_detector(cfg)
    levels, outs = f'{_TRANSFORMER}.num_levels', 'model.img_neck.num_outs'
    require_equal('levels', (levels, value_at(cfg, levels)), (outs, value_at(cfg, outs)))
    dims = value_at(cfg, f'{_TRANSFORMER}.embed_dims')
    where = f'{_TRANSFORMER}.decoder.num_heads'
    heads = value_at(cfg, where) or _HEADS_BY_DEFAULT
    if dims is not None and dims % heads:
        raise UserError(f'{where} is {heads}: {_TRANSFORMER}.embed_dims={dims} must be a multiple of it')

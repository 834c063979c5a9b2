"""Which numbers of the config of one of mmdet's detectors of boxes in images must agree."""

from typing import Any

from projects.mmdet3d_plugin.common.config_checks.check import CONFIG_CHECKS, number_of_classes, require_equal
from projects.mmdet3d_plugin.common.config_checks.numbers import reader, value_at
from projects.mmdet3d_plugin.hosts.detr.config_check import check_backbone


@CONFIG_CHECKS.register_module(name='SingleStageDetector')
def check_single_stage(cfg: dict[str, Any]) -> None:
    """One head on the levels of the neck.

    Raises:
        UserError: names the places that disagree and their values.
    """
    _check_pyramid(cfg, 'model.bbox_head')
    _check_classes(cfg, 'model.bbox_head', value_at(cfg, 'model.bbox_head'))


@CONFIG_CHECKS.register_module(name='TwoStageDetector')
def check_two_stage(cfg: dict[str, Any]) -> None:
    """Proposals on the levels of the neck, and one second stage or several.

    Raises:
        UserError: names the places that disagree and their values.
    """
    _check_pyramid(cfg, 'model.rpn_head')
    where = 'model.roi_head.bbox_head'
    heads = value_at(cfg, where)
    several = isinstance(heads, (list, tuple))
    for index, head in enumerate(heads if several else [heads]):
        _check_classes(cfg, f'{where}[{index}]' if several else where, head)


def _check_classes(cfg: dict[str, Any], where: str, head: Any) -> None:
    """A head scores the classes of the data."""
    require_equal(
        'number of classes', (f'{where}.num_classes', value_at(head, 'num_classes')), number_of_classes(cfg)
    )


def _check_pyramid(cfg: dict[str, Any], head: str) -> None:
    """Backbone, neck and the head on every level: channels, and a stride for each of them."""
    at = reader(cfg)
    check_backbone(at, 'model.backbone', 'model.neck')
    require_equal('channels', at('model.neck.out_channels'), at(f'{head}.in_channels'))
    for path in (f'{head}.anchor_generator.strides', f'{head}.strides'):
        strides = at(path)[1]
        count = len(strides) if isinstance(strides, (list, tuple)) else None
        require_equal('levels', at('model.neck.num_outs'), (f'the number of {path}', count))

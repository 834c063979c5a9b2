"""Which numbers of IA-SSD's config must agree."""

from typing import Any

from projects.mmdet3d_plugin.common.config_checks.check import (
    CONFIG_CHECKS,
    data_ranges,
    number_of_classes,
    require_equal,
)
from projects.mmdet3d_plugin.common.config_checks.numbers import value_at


@CONFIG_CHECKS.register_module(name='IASSD')
def check_ia_ssd(cfg: dict[str, Any]) -> None:
    """Classes of data, encoder, head and mean sizes; channels that pass on; one range."""
    stages = value_at(cfg, 'model.backbone.stages') or []
    context = value_at(cfg, 'model.bbox_head.context')
    sizes = value_at(cfg, 'model.bbox_head.mean_sizes')
    require_equal(
        'number of classes',
        number_of_classes(cfg),
        *(
            (path, value_at(cfg, path))
            for path in ('model.backbone.num_classes', 'model.bbox_head.num_classes')
        ),
        ('the number of model.bbox_head.mean_sizes', None if sizes is None else len(sizes)),
    )
    widths = []
    for stage in stages:
        widths.append(stage.get('out_channels') if stage.get('radii') else widths[-1] if widths else None)
    for name, index in (('in_channels', -1), ('context_channels', -2 if context is None else context)):
        if -len(widths) <= index < len(widths):
            given = f'out_channels of model.backbone.stages[{index % len(widths)}]', widths[index]
            place = f'model.bbox_head.{name}'
            require_equal('channels', given, (place, value_at(cfg, place)))
    extent = 'model.point_cloud_range'
    require_equal('range', (extent, value_at(cfg, extent)), *data_ranges(cfg))

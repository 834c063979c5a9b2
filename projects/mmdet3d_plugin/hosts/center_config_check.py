"""Which numbers of a detector with centre heads must agree, whatever its BEV map is made of."""

from typing import Any

from projects.mmdet3d_plugin.common.config_checks.check import class_names, require_equal
from projects.mmdet3d_plugin.common.config_checks.numbers import At
from projects.mmdet3d_plugin.common.errors import UserError

"""Path below some part of the config -> (whole path, value)."""
_VELOCITY = 2  # numbers of a box code beside the seven of its shape and place


def check_tasks(cfg: dict[str, Any], where: str, tasks: Any) -> None:
    """The classes of the tasks, one after the other, are those of the data: labels count through them.

    Args:
        cfg: the whole config.
        where: key of the tasks.
        tasks: their list, or None.

    Raises:
        UserError: names the places that disagree and their values.
    """
    names = []
    for index, task in enumerate(tasks or ()):
        listed = task.get('class_names')
        if listed is None:
            raise UserError(f'{where}[{index}] has no class_names')
        require_equal(
            'number of classes',
            (f'{where}[{index}].num_class', task.get('num_class')),
            (f'the number of {where}[{index}].class_names', len(listed)),
        )
        names += list(listed)
    found = class_names(cfg)
    if tasks is not None and found is not None:
        require_equal('classes', found, (f'class_names of {where}', names))


def check_cells(
    extent: tuple[str, Any], size: tuple[str, Any], stride: tuple[str, Any], head: At, train: At, test: At
) -> None:
    """Voxel size, range and cells of the heatmap are the same in the map, coder, training and testing.

    Args:
        extent: (key, [x0, y0, z0, x1, y1, z1] of the map in metres).
        size: (key, voxel size in metres).
        stride: (words, voxels per cell of the heatmap); a value of None is not known.
        head: reads below the head.
        train: reads below the head's ``train_cfg``.
        test: reads below the head's ``test_cfg``.

    Raises:
        UserError: names the places that disagree and their values.
    """
    require_equal('range', extent, train('point_cloud_range'))
    for place, value in (head('bbox_coder.pc_range'), test('pc_range')):
        if value is not None and extent[1] is not None:
            require_equal('range', (f'x and y of {extent[0]}', extent[1][:2]), (place, value[:2]))
    for place, value in (head('bbox_coder.voxel_size'), train('voxel_size'), test('voxel_size')):
        if value is not None and size[1] is not None:
            require_equal('voxel size', (size[0], size[1][: len(value)]), (place, value))
    strides = (part('out_size_factor') for part in (train, test))
    require_equal('out_size_factor', stride, head('bbox_coder.out_size_factor'), *strides)
    if extent[1] is not None and size[1] is not None and train('grid_size')[1] is not None:
        cells = [round((extent[1][i + 3] - extent[1][i]) / size[1][i]) for i in range(3)]
        require_equal('cells', ('the range over the voxel size', cells), train('grid_size'))
    _check_codes(head('common_heads'), train('code_weights'), head('bbox_coder.code_size'))


def _check_codes(heads: tuple[str, Any], weights: tuple[str, Any], size: tuple[str, Any]) -> None:
    """There is a weight for every number that the branches predict, and the coder knows whether speed is among them."""
    if heads[1] is None:
        return
    lacking = {'reg', 'height', 'dim', 'rot'} - set(heads[1])
    if lacking:
        raise UserError(
            f'{heads[0]} has no {", ".join(sorted(lacking))}: a box needs reg, height, dim and rot'
        )
    numbers = sum(head[0] for head in heads[1].values())
    counted = (
        f'the number of {weights[0]}',
        len(weights[1]) if isinstance(weights[1], (list, tuple)) else None,
    )
    require_equal('numbers of a box', (heads[0], numbers), counted)
    require_equal('numbers of a box', (heads[0], 7 + (_VELOCITY if 'vel' in heads[1] else 0)), size)

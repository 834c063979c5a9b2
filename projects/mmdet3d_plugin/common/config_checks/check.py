"""Check a config before anything is built from it: types, arguments, numbers, and what must agree in two places."""

import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.utils import Registry

from projects.mmdet3d_plugin.common.config import SPLITS, innermost_datasets
from projects.mmdet3d_plugin.common.config_checks.numbers import (
    COUNT,
    POSITIVE,
    check_number,
    check_numbers,
    is_number,
)
from projects.mmdet3d_plugin.common.config_checks.types import (
    accepted_arguments,
    find_kinds,
    require_arguments,
    require_type,
    require_values,
)
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.suggest import nearest

CONFIG_CHECKS = Registry('config check')
"""Type of a detector -> function of its config that raises UserError where its numbers disagree; beside each host."""

_PARTS = (
    'backbone', 'img_backbone', 'pts_backbone', 'neck', 'img_neck', 'pts_neck', 'bbox_head', 'pts_bbox_head', 'rpn_head',
    'roi_head', 'voxel_encoder', 'pts_voxel_encoder', 'middle_encoder', 'pts_middle_encoder', 'anchor_generator',
    'transformer', 'loss_cls', 'loss_bbox', 'loss_dir', 'cls_loss', 'bbox_loss',
)  # fmt: skip
_FREE = ('train_cfg', 'test_cfg', 'roi_layer')  # what detectors read as they like, and operators of mmcv

_WRAPPERS = {
    'ConcatDataset': ('datasets',),
    'RepeatDataset': ('dataset', 'times'),
    'ClassBalancedDataset': ('dataset', 'oversample_thr'),
    'CBGSDataset': ('dataset',),
}
"""Type of a dataset around others -> its arguments, all of them needed."""
_BY_NUMBER = ('ObjectNameFilter', 'DefaultFormatBundle3D')


def check_parts(cfg: dict[str, Any], evaluated: bool = True) -> None:
    """Check model and data of a config.

    Args:
        cfg: the config.
        evaluated: whether something is scored; else the splits for that need not have the classes of training.

    Raises:
        UserError: names the key and the mend.
    """
    if not isinstance(cfg.get('model'), dict):
        raise UserError('the config has no "model": it must be a dict with the type of a detector')
    if not isinstance(cfg.get('data'), dict):
        raise UserError('the config has no "data": it must be a dict with train, val and test')
    _check_model(cfg['model'], 'model')
    for split in SPLITS:
        _check_wrappers(cfg['data'].get(split), f'data.{split}')
    for place, dataset in datasets_of(cfg):
        _check_dataset(dataset, place)
    check_numbers(cfg)
    check_classes(cfg, evaluated)
    check_host(cfg)


def check_host(cfg: dict[str, Any]) -> None:
    """Run what the host of a config's detector registered in ``CONFIG_CHECKS``, for the class or a base class of it."""
    name = cfg['model'].get('type')
    for kind, _ in find_kinds(name, 'model') if isinstance(name, str) else []:
        for owner in inspect.getmro(kind) if inspect.isclass(kind) else ():
            check = CONFIG_CHECKS.get(owner.__name__)
            if check is not None:
                check(cfg)
                return


def require_equal(what: str, *places: tuple[str, Any]) -> None:
    """Refuse values that should be the same.

    Args:
        what: what they are, for the message.
        places: (key in the config, value); a value of None is not there and cannot disagree.

    Raises:
        UserError: names the first two places that differ, and their values.

    Example:
        >>> require_equal('number of classes', ('data', 10), ('head', 10))
    """
    known = [(place, value) for place, value in places if value is not None]
    for place, value in known[1:]:
        if not _same(known[0][1], value):
            first, expected = known[0]
            raise UserError(
                f'{what}: {first} is {_shown(expected)}, but {place} is {_shown(value)}; they must agree'
            )


def datasets_of(cfg: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, config) of every dataset of ``cfg.data``, inside wrappers.

    Raises:
        UserError: a split is no dataset.
    """
    for split in SPLITS:
        node = cfg['data'].get(split)
        if node is None:
            continue
        if not isinstance(node, (dict, list, tuple)):
            raise UserError(f'data.{split} is {node!r}: it must be the config of a dataset')
        found = list(innermost_datasets(node))
        if not found:
            raise UserError(f'data.{split} has no dataset in it: name at least one')
        for index, dataset in enumerate(found):
            place = f'data.{split}' if len(found) == 1 else f'data.{split}[{index}]'
            if not isinstance(dataset, dict):
                raise UserError(f'{place} is {dataset!r}: it must be the config of a dataset')
            yield place, dataset


def class_names(cfg: dict[str, Any]) -> tuple[str, list[str]] | None:
    """(place, names in the order of labels) of the first dataset that says its classes; None when none does."""
    for place, dataset in datasets_of(cfg):
        names = classes_of(dataset)
        if names is not None:
            return f'{place}.classes', names
    return None


def number_of_classes(cfg: dict[str, Any]) -> tuple[str, int | None]:
    """(place, number of classes) of the data, for :func:`require_equal`."""
    found = class_names(cfg)
    return ('data', None) if found is None else (f'the number of {found[0]}', len(found[1]))


def data_ranges(cfg: dict[str, Any]) -> list[tuple[str, Any]]:
    """(place, range) of all datasets that say where they end, for :func:`require_equal`."""
    return [
        (f'{place}.point_cloud_range', dataset.get('point_cloud_range'))
        for place, dataset in datasets_of(cfg)
    ]


def check_classes(cfg: dict[str, Any], evaluated: bool = True) -> None:
    """All splits have the same classes in the same order, and no transform drops or renames one of them.

    Unless something is ``evaluated``, only the split to train on matters.
    """
    found = class_names(cfg)
    for place, dataset in datasets_of(cfg):
        names = classes_of(dataset)
        if found is not None and names is not None and (evaluated or place.startswith('data.train')):
            require_equal('classes', found, (f'{place}.classes', names))
        for where, transform in transforms_of(dataset.get('pipeline'), f'{place}.pipeline'):
            if names is not None:
                _check_transform_classes(transform, where, (f'{place}.classes', names))


def transforms_of(pipeline: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, config) of every transform of a pipeline, those within others included."""
    for index, transform in enumerate(pipeline if isinstance(pipeline, (list, tuple)) else ()):
        if isinstance(transform, dict):
            yield f'{place}[{index}]', transform
            yield from transforms_of(transform.get('transforms'), f'{place}[{index}].transforms')


def _check_transform_classes(transform: dict[str, Any], where: str, wanted: tuple[str, list[str]]) -> None:
    """A transform knows at least the classes of its dataset; one that labels objects itself knows the same."""
    for key in ('classes', 'class_names'):
        names = transform.get(key)
        # mmdet3d's own transforms go by the number of a class, and never look at its name.
        if transform.get('type') in _BY_NUMBER and len(names or ()) == len(wanted[1]):
            continue
        if isinstance(names, (list, tuple)) and not set(wanted[1]) <= set(names):
            require_equal('classes', wanted, (f'{where}.{key}', list(names)))
    sampler = transform.get('db_sampler')
    if isinstance(sampler, dict) and isinstance(sampler.get('classes'), (list, tuple)):
        require_equal('classes', wanted, (f'{where}.db_sampler.classes', list(sampler['classes'])))


def classes_of(dataset: dict[str, Any]) -> list[str] | None:
    """Class names of a dataset config, else the default of its class; None where neither says."""
    names = dataset.get('classes')
    if names is None and isinstance(dataset.get('type'), str):
        kinds = [kind for kind, _ in find_kinds(dataset['type'], 'dataset') if inspect.isclass(kind)]
        names = getattr(kinds[0], 'CLASSES', None) if kinds else None
        if kinds and names is None:
            default = inspect.signature(kinds[0].__init__).parameters.get('classes')
            names = None if default is None or default.default is default.empty else default.default
    return list(names) if isinstance(names, (list, tuple)) else None


def _check_wrappers(node: Any, place: str) -> None:
    """Wrappers around datasets have what they need and nothing that they would leave unread."""
    if isinstance(node, (list, tuple)):
        for index, item in enumerate(node):
            _check_wrappers(item, f'{place}[{index}]')
    kind = node.get('type') if isinstance(node, dict) else None
    needed = _WRAPPERS.get(kind) if isinstance(kind, str) else None
    if needed is None:
        return
    for key in node:
        if key not in ('type', *needed):
            raise UserError(f'{place}: {kind} takes no {key!r}; {nearest(key, needed)}')
    for key in needed:
        if node.get(key) is None:
            raise UserError(f'{place}: {kind} needs {key!r}')
    if kind == 'ConcatDataset' and not isinstance(node['datasets'], (list, tuple)):
        raise UserError(f'{place}.datasets must be a list of datasets')
    check_number(f'{place}.times', node.get('times'), COUNT)
    check_number(f'{place}.oversample_thr', node.get('oversample_thr'), POSITIVE)
    inner = 'datasets' if kind == 'ConcatDataset' else 'dataset'
    _check_wrappers(node[inner], f'{place}.{inner}')


def _check_dataset(node: dict[str, Any], place: str) -> None:
    """Type and arguments of a dataset and of its transforms."""
    require_type(node, place, 'dataset')
    files = node.get('ann_file')
    if isinstance(files, (list, tuple)):  # joined by build_dataset
        if not files or not all(isinstance(name, str) for name in files):
            raise UserError(f'{place}.ann_file is {list(files)!r}: it must be an info file or a list of some')
        node = {**node, 'ann_file': files[0]}
    _check_names_and_transforms(node, place)
    require_arguments(node, place, 'dataset')
    for where, transform in transforms_of(node.get('pipeline'), f'{place}.pipeline'):
        require_arguments(transform, where, 'transform')
        if isinstance(transform.get('db_sampler'), dict):
            require_arguments(transform['db_sampler'], f'{where}.db_sampler', 'object sampler')


def _check_names_and_transforms(node: dict[str, Any], place: str) -> None:
    """The classes of a dataset are a list of names, its pipeline a list of dicts."""
    classes = node.get('classes')
    if isinstance(classes, str) and not Path(classes).is_file():  # mmdet reads names from a file too
        raise UserError(f'{place}.classes is {classes!r}: it must be a list of names')
    if classes is not None and not isinstance(classes, (str, list, tuple)):
        raise UserError(f'{place}.classes is {classes!r}: it must be a list of names')
    if isinstance(classes, (list, tuple)):
        if not classes or not all(isinstance(name, str) for name in classes):
            raise UserError(f'{place}.classes is {list(classes)!r}: it must hold names of classes')
        if len(set(classes)) < len(classes):
            raise UserError(f'{place}.classes names a class twice: {list(classes)}')
    pipeline = node.get('pipeline')
    if pipeline is None:
        return
    if not isinstance(pipeline, (list, tuple)) or not pipeline:
        raise UserError(f'{place}.pipeline is {pipeline!r}: it must be a list of transforms')
    for index, transform in enumerate(pipeline):
        if not isinstance(transform, dict):
            raise UserError(f'{place}.pipeline[{index}] is {transform!r}: it must be a dict with a type')


def _check_model(node: Any, place: str) -> None:
    """Types and arguments of a model and all its parts."""
    if isinstance(node, (list, tuple)):
        for index, item in enumerate(node):
            _check_model(item, f'{place}[{index}]')
    if not isinstance(node, dict):
        return
    untyped: dict[str, type] = {}
    if 'type' in node or place == 'model':
        require_arguments(node, place, 'model')
        kinds = require_type(node, place, 'model')
        untyped = getattr(kinds[0][0], 'CONFIG_PARTS', {}) if kinds else {}
    for key, value in node.items():
        where = f'{place}.{key}'
        if key in untyped:
            _check_untyped(value, where, untyped[key])
        elif key in _PARTS and value is not None:
            if not isinstance(value, (dict, list, tuple)):
                raise UserError(f'{where} is {value!r}: it must be a dict with a type')
            if isinstance(value, dict):
                require_type(value, where, 'model')
        if key in ('train_cfg', 'test_cfg') and not isinstance(value, (dict, list, tuple, type(None))):
            raise UserError(f'{where} is {value!r}: it must be a dict')
        if key not in _FREE:
            _check_model(value, where)


def _check_untyped(node: Any, place: str, kind: type) -> None:
    """Arguments of a part whose class is fixed, so that it has no type."""
    if node is None:
        return
    if not isinstance(node, dict):
        raise UserError(f'{place} is {node!r}: it must be a dict of the arguments of {kind.__name__}')
    require_values(kind, node, f'{place}.')
    accepted = accepted_arguments(kind)
    for key in node:
        if accepted is not None and key not in accepted:
            raise UserError(f'{place}: {kind.__name__} takes no {key!r}; {nearest(key, accepted)}')
    for key, part in getattr(kind, 'CONFIG_PARTS', {}).items():
        _check_untyped(node.get(key), f'{place}.{key}', part)


def _same(a: Any, b: Any) -> bool:
    """Equality that does not tell lists from tuples, nor 0 from 0.0."""
    if isinstance(a, Sequence) and isinstance(b, Sequence) and not isinstance(a, str):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    if is_number(a) and is_number(b):
        return bool(np.isclose(a, b, rtol=1e-6, atol=1e-6))
    return bool(a == b)


def _shown(value: Any) -> str:
    """A value as a config has it, shortened."""
    text = str(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 200 else f'{text[:200]}...'

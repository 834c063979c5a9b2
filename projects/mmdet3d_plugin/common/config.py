"""Load a config, and point it at another data folder."""

import gc
import math
import os
import pprint
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmcv import Config

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.overrides import override
from projects.mmdet3d_plugin.common.suggest import close_names
from projects.mmdet3d_plugin.registry import register_all

CONFIG_ROOT = Path(__file__).resolve().parents[2] / 'configs'
SPLITS = ('train', 'val', 'test')


def load_config(
    path: str | os.PathLike,
    cfg_options: dict[str, Any] | None = None,
    data_root: str | os.PathLike | None = None,
) -> Config:
    """Read a config and register everything it may name.

    Args:
        path: the file; a bare file name is looked for below ``projects/configs``.
        cfg_options: overrides with dotted keys, as given to ``--cfg-options``; a key that is not in the config must be
            an argument of what it stands in, or begin with ``+``.
        data_root: a folder in the dataset's layout that takes the place of the config's own.

    Raises:
        UserError: there is no such file, it cannot be read, or an override fits nothing.

    Example:
        >>> load_config('bevformer_tiny.py', {'total_epochs': 12}).total_epochs
        12
    """
    register_all()
    cfg = read_config(find_config(path))
    if cfg_options:
        override(cfg, cfg_options)
    if data_root is not None:
        move_data_root(cfg, data_root)
    return cfg


def read_config(path: Path) -> Config:
    """Read a config file; an error in it is told with its file and line.

    Raises:
        UserError: the file is no config, or fails while it is executed.
    """
    folders = list(sys.path)
    try:
        return Config.fromfile(str(path))
    except Exception as error:
        message = f'{path} cannot be read: {_what_failed(error)}'
        _forget(error)
        raise UserError(message) from error
    finally:
        sys.path[:] = folders  # mmcv leaves the folder of its copy there when a config fails


def config_text(cfg: Config) -> str:
    """A config with all that its bases say, as Python that :func:`read_config` reads.

    mmcv's ``pretty_text`` is the same by yapf, which takes seconds for each detector.

    Example:
        >>> print(config_text(Config(dict(model=dict(type='A', limit=float('inf')), classes=('car',)))), end='')
        model = {'type': 'A', 'limit': float('inf')}
        classes = ('car',)
    """
    return ''.join(
        f'{key} = {pprint.pformat(_as_code(value), width=110, sort_dicts=False)}\n'
        for key, value in cfg._cfg_dict.to_dict().items()
    )


class _Code(str):
    """Text that is written without quotes."""

    def __repr__(self) -> str:
        return str(self)


def _as_code(value: Any) -> Any:
    """The same value with what Python cannot read back, numbers that are not finite, as code that says them."""
    if isinstance(value, dict):
        return {key: _as_code(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_as_code(part) for part in value)
    if isinstance(value, float) and not math.isfinite(value):
        return _Code(f"float('{value}')")
    return value


def _what_failed(error: Exception) -> str:
    """Message, file and line of an error within a config or one of its bases, which mmcv executes from copies."""
    if isinstance(error, SyntaxError):
        return str(error).removeprefix('There are syntax errors in config file ')
    file, line = None, None
    for frame, number in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == '_file2dict':
            file, line = frame.f_locals.get('filename'), None
        elif frame.f_code.co_name == '<module>' and line is None:
            line = number
    said = error if str(error) or error.__context__ is None else error.__context__  # mmcv's custom_imports
    text = said.args[0] if isinstance(said, KeyError) and said.args else str(said)
    place = '' if file is None else f' ({file}, line {line})' if line else f' ({file})'
    return f'{type(error).__name__}: {text}{place}'


def _forget(error: Exception) -> None:
    """Let go of mmcv's copy of a config now: its folder is gone, and Python would say so at the very end."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        traceback.clear_frames(error.__traceback__)
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_name == '_file2dict':
                frame.f_locals.clear()  # what was looked at, which a cleared frame keeps
        gc.collect()
    finally:
        sys.unraisablehook = hook


def find_config(path: str | os.PathLike) -> Path:
    """Find a config by path, from here or from the root of the project, or by its bare name below ``projects/configs``.

    Raises:
        UserError: no such file (with the nearest names), or several with that name.

    Example:
        >>> find_config('bevformer_tiny.py').name
        'bevformer_tiny.py'
    """
    for file in (Path(path), CONFIG_ROOT.parents[1] / path):  # configs name each other from the root
        if file.is_file():
            return file
    known = sorted(CONFIG_ROOT.rglob('*.py'))
    wanted = Path(path).name
    found = [file for file in known if file.name == wanted or file.stem == wanted]
    bare = str(path) == wanted
    if bare and len(found) == 1:
        return found[0]
    if bare and found:
        names = ', '.join(_shown(file) for file in found)
        raise UserError(f'{path} is the name of several configs: say which of {names}')
    near = found or [
        f for name in close_names(wanted, {f.name for f in known}, 2, 0.5) for f in known if f.name == name
    ]
    hint = f'; did you mean {" or ".join(_shown(file) for file in near)}?' if near else ''
    raise UserError(f'there is no config {path}{hint}')


def move_data_root(cfg: Config, data_root: str | os.PathLike) -> None:
    """Point every dataset of a config at another folder, in place.

    Every path below ``cfg.data`` that lies in the dataset's own ``data_root`` moves along, info files included.
    """
    new = Path(data_root)
    if not new.is_dir():
        raise UserError(f'--data-root {new} is not a folder')
    target = f'{new}/'
    splits = [cfg.data[split] for split in SPLITS if cfg.data.get(split) is not None]
    for dataset in innermost_datasets(splits):
        old = dataset.get('data_root')
        if old is None:
            raise UserError(
                f'--data-root has nothing to replace: dataset {dataset.get("type")} has no data_root'
            )
        if str(old).strip('./'):  # paths beside the working directory are below no folder that could move
            _replace_prefix(dataset, str(old).rstrip('/') + '/', target)
        dataset['data_root'] = target
    if 'data_root' in cfg:
        cfg.data_root = target


def as_config(config: str | os.PathLike | Mapping) -> Config:
    """A config of a file, or a config that is given as it is.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    if isinstance(config, Mapping | Config):
        return config if isinstance(config, Config) else Config(dict(config))
    return read_config(find_config(config))


def config_classes(cfg: Config) -> list[str] | None:
    """The class names of a config, in the order of its labels; None when it does not say.

    Raises:
        UserError: datasets that are trained on together name different classes.

    Example:
        >>> config_classes(Config(dict(data=dict(train=[dict(classes=['car'])]))))
        ['car']
    """
    names = cfg.get('class_names')
    if names is not None:
        return list(names)
    train = (cfg.get('data') or {}).get('train')
    found = [] if train is None else [inner.get('classes') for inner in innermost_datasets(train)]
    named = [list(names) for names in found if isinstance(names, list | tuple)]
    if any(names != named[0] for names in named):
        raise UserError(
            f'the datasets of data.train name different classes: {named}; give all of them one list'
        )
    return named[0] if named else None


def innermost_datasets(dataset: Any) -> Iterator[dict[str, Any]]:
    """Yield the dataset configs inside RepeatDataset-like wrappers, ConcatDataset and lists.

    Example:
        >>> list(innermost_datasets(dict(type='RepeatDataset', dataset=dict(type='KittiFrames'))))
        [{'type': 'KittiFrames'}]
    """
    if isinstance(dataset, (list, tuple)):
        for item in dataset:
            yield from innermost_datasets(item)
    elif not isinstance(dataset, dict):
        raise UserError(f'data holds {dataset!r} where the config of a dataset belongs')
    elif 'dataset' in dataset:
        yield from innermost_datasets(dataset['dataset'])
    elif 'datasets' in dataset:
        yield from innermost_datasets(dataset['datasets'])
    else:
        yield dataset


def _replace_prefix(node: Any, old: str, new: str) -> Any:
    """Replace a leading path in every string below ``node``; dicts and lists change in place."""
    if isinstance(node, str):
        return new + node[len(old) :] if node.startswith(old) else node
    if isinstance(node, dict):
        for key in node:
            node[key] = _replace_prefix(node[key], old, new)
    elif isinstance(node, list):
        node[:] = [_replace_prefix(item, old, new) for item in node]
    return node


def _shown(file: Path) -> str:
    """A path as one would type it from the root of the project."""
    try:
        return str(file.relative_to(CONFIG_ROOT.parents[1]))
    except ValueError:
        return str(file)


def work_dir_of(cfg: Config, chosen: str | os.PathLike | None = None) -> Path:
    """The run's folder: the chosen one, else the config's, else ``work_dirs/<name of the config>``.

    Example:
        >>> work_dir_of(Config.fromfile('projects/configs/bevformer/bevformer_tiny.py')).as_posix()
        'work_dirs/bevformer_tiny'
    """
    if chosen is not None:
        return Path(chosen)
    if cfg.get('work_dir'):
        return Path(cfg.work_dir)
    return Path('work_dirs') / Path(cfg.filename).stem

"""Load a config, and point it at another data folder."""

import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmcv import Config

from projects.mmdet3d_plugin.common.errors import UserError
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
        cfg_options: overrides with dotted keys, as given to ``--cfg-options``.
        data_root: a folder in the dataset's layout that takes the place of the config's own.
    """
    register_all()
    cfg = Config.fromfile(str(find_config(path)))
    if cfg_options:
        cfg.merge_from_dict(cfg_options)
    if data_root is not None:
        move_data_root(cfg, data_root)
    return cfg


def find_config(path: str | os.PathLike) -> Path:
    """Find a config by path, or by its bare file name below ``projects/configs``.

    Raises:
        UserError: no such file (with the nearest names), or several with that name.
    """
    if Path(path).is_file():
        return Path(path)
    known = sorted(CONFIG_ROOT.rglob('*.py'))
    wanted = Path(path).name
    found = [file for file in known if file.name == wanted or file.stem == wanted]
    bare = str(path) == wanted
    if bare and len(found) == 1:
        return found[0]
    if bare and found:
        names = ', '.join(_shown(file) for file in found)
        raise UserError(f'{path} is the name of several configs: say which of {names}')
    near = found or _nearest(wanted, known)
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
        _replace_prefix(dataset, str(old).rstrip('/') + '/', target)
        dataset['data_root'] = target
    if 'data_root' in cfg:
        cfg.data_root = target


def innermost_datasets(dataset: Any) -> Iterator[dict[str, Any]]:
    """Yield the dataset configs inside RepeatDataset-like wrappers, ConcatDataset and lists."""
    if isinstance(dataset, (list, tuple)):
        for item in dataset:
            yield from innermost_datasets(item)
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


def _nearest(wanted: str, known: list[Path]) -> list[Path]:
    """Configs whose file name looks like the wanted one, best first."""
    names = difflib.get_close_matches(wanted, [file.name for file in known], n=2, cutoff=0.5)
    return [file for name in dict.fromkeys(names) for file in known if file.name == name]


def _shown(file: Path) -> str:
    """A path as one would type it from the root of the project."""
    try:
        return str(file.relative_to(CONFIG_ROOT.parents[1]))
    except ValueError:
        return str(file)


def work_dir_of(cfg: Config, chosen: str | os.PathLike | None = None) -> Path:
    """The run's folder: the chosen one, else the config's, else ``work_dirs/<name of the config>``."""
    if chosen is not None:
        return Path(chosen)
    if cfg.get('work_dir'):
        return Path(cfg.work_dir)
    return Path('work_dirs') / Path(cfg.filename).stem

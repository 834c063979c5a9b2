"""Info files: where they lie, how they are written, read and checked."""

import re
import reprlib
import shlex
from collections.abc import Iterable, Mapping
from numbers import Real
from pathlib import Path
from types import UnionType
from typing import Any

import numpy as np

from projects.mmdet3d_plugin.box_codec import BOX_CONVENTIONS, check_convention, check_heading, convert_boxes
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import write_pickle
from projects.mmdet3d_plugin.common.safe_pickle import read_pickle
from projects.mmdet3d_plugin.datasets.info_checks import check_infos

CAMERAS = ('CAM_FRONT', 'CAM_FRONT_RIGHT', 'CAM_FRONT_LEFT', 'CAM_BACK', 'CAM_BACK_LEFT', 'CAM_BACK_RIGHT')
"""The cameras of nuScenes' cars, in the order of the published models. Other rigs have others."""
Info = dict[str, Any]
InfoFile = dict[str, Any]
AMBIGUOUS = 'ambiguous_boxes'
"""Key of an info of a derived set: (m, 7) boxes that are neither objects nor background for certain."""
BANK = 'bank_boxes'
"""Key of an info of a derived set: (n, 7) boxes of what was mined in the frame. Both in the LiDAR frame, bottom centres."""
_NEEDED = ('token', 'scene_token', 'timestamp', 'cams', 'can_bus', 'lidar_path')


def temporal_info_file(split: str) -> str:
    """Name of the info file of a split of nuScenes ('train', 'val', 'test' or one's own), whatever the version.

    Example:
        >>> temporal_info_file('train')
        'nuscenes_infos_temporal_train.pkl'
    """
    return f'nuscenes_infos_temporal_{split}.pkl'


def ordered_cameras(names: Iterable[str]) -> tuple[str, ...]:
    """The order in which cameras go into a network: those of nuScenes as the published models have them, then by name.

    Example:
        >>> ordered_cameras(['left', 'CAM_BACK', 'CAM_FRONT'])
        ('CAM_FRONT', 'CAM_BACK', 'left')
    """
    return tuple(sorted(names, key=lambda n: (CAMERAS.index(n) if n in CAMERAS else len(CAMERAS), n)))


def save_infos(content: InfoFile | list[Info] | dict[str, list[Info]], path: Path) -> None:
    """Write an info file, whole or not at all."""
    write_pickle(path, content)


def mined_boxes(info: Info) -> dict[str, np.ndarray]:
    """What a derived set says of a frame beside its labels; nothing where the info is of no derived set."""
    return {key: info[key] for key in (AMBIGUOUS, BANK) if key in info}


def ambiguous_boxes(results: Mapping[str, Any]) -> np.ndarray:
    """Boxes (m, 7) of a frame's pipeline that are neither object nor background for certain.

    Raises:
        UserError: nobody handed them over.
    """
    if AMBIGUOUS not in results:
        raise UserError(
            f'a frame comes without {AMBIGUOUS!r}: data.train must read a derived set (tools/derive_training_set.py) by '
            'KittiFrames or NuScenesSweepsDataset, which hand them over'
        )
    return results[AMBIGUOUS]


def find_info_file(ann_file: str, data_root: Path, options: str) -> Path:
    """Resolve ``ann_file``: absolute, below ``data_root``, or else below the working directory.

    Args:
        ann_file: name of the info file.
        data_root: folder of the dataset.
        options: what tools/create_data.py needs to make the file: the dataset's name, and what follows ``--root-path``.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: this is no name.
    """
    if not isinstance(ann_file, str | Path) or not str(ann_file):
        raise UserError(f'ann_file is {ann_file!r}: it must be the name of an info file')
    candidates = [data_root / ann_file, Path(ann_file)]  # joining an absolute path keeps it as it is
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(
        f'info file {candidates[0]} does not exist; make it with: {create_command(options, data_root)}'
    )


def create_command(options: str, data_root: str | Path) -> str:
    """The command that makes the info files of a data root; ``options`` as in :func:`find_info_file`."""
    dataset, _, rest = options.partition(' ')
    return f'python tools/create_data.py {dataset} --root-path {shlex.quote(str(data_root))} {rest}'.rstrip()


def load_infos(path: Path, convention: str) -> InfoFile:
    """Read an info file of this project or of BEVFormer and mmdet3d, with boxes in convention v1.0.

    Args:
        path: the pickle; it may come from a stranger.
        convention: box convention of the file; a file that says otherwise about itself is an error.

    Returns:
        ``dict(metadata=..., cameras=..., infos=[...])``: names of the cameras in the order of the network; infos sorted
        by scene as recorded and time, paths relative to the data root, ``gt_boxes`` (n, 7) and ``gt_velocity`` (n, 2)
        without NaN.

    Raises:
        UserError: the file is no info file, or holds numbers that cannot be right.
    """
    content = read_pickle(path)
    infos = content.get('infos') if isinstance(content, dict) else None
    if not isinstance(infos, list) or not all(isinstance(info, dict) for info in infos):
        raise UserError(
            f'{path} is not an info file: it has no list "infos"; make it with tools/create_data.py'
        )
    metadata = content.get('metadata')
    metadata = dict(metadata) if isinstance(metadata, dict) else {}
    _check_marker(path, metadata.get('box_convention'), convention)
    infos = sorted((_normalise(info, convention, path) for info in infos), key=_scene_order(infos))
    check_infos(infos, path)
    _check_boxes(path, convention, infos)
    return dict(metadata=metadata, cameras=_cameras_of(infos, path), infos=infos)


def _check_marker(path: Path, marker: str | None, convention: str) -> None:
    check_convention(convention)
    if marker is not None and marker not in BOX_CONVENTIONS:
        raise UserError(
            f'{path} says that its boxes follow the convention {marker!r}, which is none of '
            f'{", ".join(BOX_CONVENTIONS)}; make it again with tools/create_data.py'
        )
    if marker is not None and marker != convention:
        raise UserError(
            f'{path} holds boxes in the {marker!r} convention, but the dataset was told info_convention='
            f'{convention!r}; set info_convention={marker!r}'
        )


def _scene_order(infos: list[Info]) -> Any:
    """Sort key: scenes in the order in which the file first names them, frames by time."""
    rank: dict[str, int] = {}
    for info in infos:
        rank.setdefault(str(info.get('scene_token')), len(rank))
    return lambda info: (rank[str(info['scene_token'])], info['timestamp'])


def _normalise(info: Info, convention: str, path: Path) -> Info:
    """One info with relative paths and boxes in v1.0."""
    missing = [key for key in _NEEDED if key not in info]
    if missing:
        raise UserError(
            f'{path}: an info lacks {", ".join(missing)}; temporal infos come from tools/create_data.py'
        )
    try:
        return _normalised(info, convention)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f'it lacks {error}' if isinstance(error, KeyError) else str(error)
        raise UserError(
            f'{path}: sample {info["token"]} cannot be read ({what}); make the file again with tools/create_data.py'
        ) from error


def _normalised(info: Info, convention: str) -> Info:
    _require(info, 'token', str | int)
    _require(info, 'scene_token', str | int)
    _require(info, 'timestamp', Real)
    info = dict(info, lidar_path=relative_path(_require(info, 'lidar_path', str)))
    info['sweeps'] = [_with_relative_path(sweep, 'a sweep') for sweep in info.get('sweeps', ())]
    cams = _require(info, 'cams', dict)
    info['cams'] = {name: _with_relative_path(cam, name) for name, cam in cams.items()}
    if 'gt_boxes' in info:
        boxes = np.asarray(info['gt_boxes'], dtype=np.float64).reshape(-1, 7)
        info['gt_boxes'] = convert_boxes(boxes, convention, 'v1.0')
        velocity = np.asarray(info['gt_velocity'], dtype=np.float64).reshape(-1, 2)
        info['gt_velocity'] = np.where(np.isnan(velocity), 0.0, velocity)  # unknown at the ends of a track
        info['gt_names'] = np.asarray(_require(info, 'gt_names', list | tuple | np.ndarray), dtype=str)
    return info


def _with_relative_path(sensor: dict[str, Any], name: str) -> dict[str, Any]:
    """A camera or a sweep with its path cut."""
    if not isinstance(sensor, dict):
        raise TypeError(f'{name} is {sensor!r}')
    return {**sensor, 'data_path': relative_path(_require(sensor, 'data_path', str))}


def _require(node: dict[str, Any], key: str, kind: type | UnionType) -> Any:
    """The value of a key, which must be of a kind."""
    if not isinstance(node[key], kind):
        raise TypeError(f'{key} is {reprlib.repr(node[key])}')
    return node[key]


def relative_path(path: str) -> str:
    """Cut what stands before the folder ``samples`` or ``sweeps``: official files store paths of their author's machine.

    Examples:
        >>> relative_path('/home/me/my_samples/nuscenes/sweeps/LIDAR_TOP/a.bin')
        'sweeps/LIDAR_TOP/a.bin'
        >>> relative_path(r'D:\\data\\samples\\CAM_FRONT\\a.jpg')
        'samples/CAM_FRONT/a.jpg'
    """
    parts = re.split(r'[/\\]', path) if '\\' in path else path.split('/')
    for at in range(len(parts) - 1, -1, -1):
        if parts[at] in ('samples', 'sweeps'):
            return '/'.join(parts[at:])
    return '/'.join(parts)


def _cameras_of(infos: list[Info], path: Path) -> tuple[str, ...]:
    """Names of the cameras, the same in all infos."""
    if not infos:
        return ()
    names = set(infos[0]['cams'])
    for info in infos:
        other = set(info['cams'])
        if other != names:
            name, owner = (min(names - other), info) if names - other else (min(other - names), infos[0])
            raise UserError(
                f'{path}: sample {owner["token"]} has no camera {name}, which other samples have; keep the same cameras '
                'in all (tools/create_data.py nuscenes --cameras NAME ...)'
            )
    return ordered_cameras(names)


def _check_boxes(path: Path, convention: str, infos: list[Info]) -> None:
    """Refuse a file whose boxes, read in ``convention`` and now in v1.0, do not point where they move."""
    labelled = [np.hstack([info['gt_boxes'], info['gt_velocity']]) for info in infos if 'gt_boxes' in info]
    if not labelled:
        return
    try:
        check_heading(np.concatenate(labelled), 'v1.0')
    except ValueError as error:
        other = BOX_CONVENTIONS[1 - BOX_CONVENTIONS.index(convention)]
        raise UserError(
            f'{path} does not hold {convention!r} boxes: they do not point where they move; set '
            f'info_convention={other!r}'
        ) from error

"""Info files: where they lie, how they are written, read and checked."""

from pathlib import Path
from typing import Any

import numpy as np

from projects.mmdet3d_plugin.box_codec import BOX_CONVENTIONS, check_convention, check_heading, convert_boxes
from projects.mmdet3d_plugin.common.files import write_pickle
from projects.mmdet3d_plugin.common.safe_pickle import read_pickle

CAMERAS = ('CAM_FRONT', 'CAM_FRONT_RIGHT', 'CAM_FRONT_LEFT', 'CAM_BACK', 'CAM_BACK_LEFT', 'CAM_BACK_RIGHT')
Info = dict[str, Any]
InfoFile = dict[str, Any]


def info_file_name(part: str) -> str:
    """Name of the info file of ``part`` ('train' or 'val'), whatever the nuScenes version.

    Example:
        >>> info_file_name('train')
        'nuscenes_infos_temporal_train.pkl'
    """
    return f'nuscenes_infos_temporal_{part}.pkl'


def save_infos(content: InfoFile | list[Info] | dict[str, list[Info]], path: Path) -> None:
    """Write an info file, whole or not at all."""
    write_pickle(path, content)


def find_info_file(ann_file: str, data_root: Path, options: str) -> Path:
    """Resolve ``ann_file``: absolute, below ``data_root``, or else below the working directory.

    Args:
        ann_file: name of the info file.
        data_root: folder of the dataset.
        options: what tools/create_data.py needs to make the file: the dataset's name, and what follows ``--root-path``.
    """
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
    return f'python tools/create_data.py {dataset} --root-path {data_root} {rest}'.rstrip()


def load_infos(path: Path, convention: str) -> InfoFile:
    """Read an info file of this project or of BEVFormer and mmdet3d, with boxes in convention v1.0.

    Args:
        path: the pickle.
        convention: box convention of the file; a file that says otherwise about itself is an error.

    Returns:
        ``dict(metadata=..., infos=[...])``, infos sorted by scene as recorded and time, paths relative to the data
        root, ``gt_boxes`` (n, 7) and ``gt_velocity`` (n, 2) without NaN.
    """
    content = read_pickle(path)
    if not isinstance(content, dict) or 'infos' not in content:
        raise ValueError(
            f'{path} is not an info file: it has no list "infos"; make it with tools/create_data.py'
        )
    metadata = dict(content.get('metadata') or {})
    _check_marker(path, metadata.get('box_convention'), convention)
    infos = sorted(
        (_normalise(info, convention, path) for info in content['infos']), key=_scene_order(content['infos'])
    )
    _check_boxes(path, convention, infos)
    return dict(metadata=metadata, infos=infos)


def _check_marker(path: Path, marker: str | None, convention: str) -> None:
    check_convention(convention)
    if marker is not None and marker != convention:
        raise ValueError(
            f'{path} holds boxes in the {marker!r} convention, but the dataset was told info_convention='
            f'{convention!r}; set info_convention={marker!r}'
        )


def _scene_order(infos: list[Info]) -> Any:
    """Sort key: scenes in the order in which the file first names them, frames by time."""
    rank: dict[str, int] = {}
    for info in infos:
        rank.setdefault(info['scene_token'], len(rank))
    return lambda info: (rank[info['scene_token']], info['timestamp'])


def _normalise(info: Info, convention: str, path: Path) -> Info:
    missing = [
        k for k in ('token', 'scene_token', 'timestamp', 'cams', 'can_bus', 'lidar_path') if k not in info
    ]
    if missing:
        raise ValueError(
            f'{path}: an info lacks {", ".join(missing)}; temporal infos come from tools/create_data.py'
        )
    info = dict(info)
    info['lidar_path'] = _relative(info['lidar_path'])
    info['sweeps'] = [
        {**sweep, 'data_path': _relative(sweep['data_path'])} for sweep in info.get('sweeps', ())
    ]
    info['cams'] = {
        name: {**cam, 'data_path': _relative(cam['data_path'])} for name, cam in info['cams'].items()
    }
    if 'gt_boxes' in info:
        boxes = np.asarray(info['gt_boxes'], dtype=np.float64).reshape(-1, 7)
        info['gt_boxes'] = convert_boxes(boxes, convention, 'v1.0')
        info['gt_velocity'] = np.nan_to_num(np.asarray(info['gt_velocity'], dtype=np.float64)).reshape(-1, 2)
    return info


def _relative(path: str) -> str:
    """Cut what stands before ``samples/`` or ``sweeps/``: official files store paths of their author's machine."""
    for folder in ('samples/', 'sweeps/'):
        if (at := path.rfind(folder)) >= 0:
            return path[at:]
    return path


def _check_boxes(path: Path, convention: str, infos: list[Info]) -> None:
    """Refuse a file whose boxes, read in ``convention`` and now in v1.0, do not point where they move."""
    labelled = [np.hstack([info['gt_boxes'], info['gt_velocity']]) for info in infos if 'gt_boxes' in info]
    if not labelled:
        return
    try:
        check_heading(np.concatenate(labelled), 'v1.0')
    except ValueError as error:
        other = BOX_CONVENTIONS[1 - BOX_CONVENTIONS.index(convention)]
        raise ValueError(
            f'{path} does not hold {convention!r} boxes: they do not point where they move; set '
            f'info_convention={other!r}'
        ) from error

"""Whether nuScenes-like samples can be evaluated: what the devkit will read, and whether it will find a box to score."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nuscenes.eval.common.config import config_factory

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.geometry import transform_matrix, transform_points

Info = dict[str, Any]
TABLES = (
    'category', 'attribute', 'visibility', 'instance', 'sensor', 'calibrated_sensor', 'ego_pose', 'log', 'scene',
    'sample', 'sample_data', 'sample_annotation', 'map',
)  # fmt: skip
_EMPTY_TABLE = 8  # bytes: [] and white space


def check_tables(root: Path, version: str) -> None:
    """The 13 tables are there, and the maps that the devkit insists on.

    Raises:
        FileNotFoundError: names the file and the archive that has it.
        UserError: a table is damaged.
    """
    if not root.is_dir():
        raise FileNotFoundError(f'{root} does not exist; pass the folder that holds samples/ and {version}/')
    if not (root / version).is_dir():
        found = sorted(path.name for path in root.glob('v*') if path.is_dir())
        hint = (
            f'found {", ".join(found)}: pass --version {found[0]}' if found else 'it holds no v1.0-* folder'
        )
        raise FileNotFoundError(f'no tables of {version} in {root}; {hint}')
    for name in TABLES:
        path = root / version / f'{name}.json'
        if not path.is_file():
            raise FileNotFoundError(
                f'table {path} is missing; unpack the metadata archive of {version} again'
            )
    for record in read_table(root / version / 'map.json'):
        if not (root / str(record.get('filename'))).is_file():
            raise FileNotFoundError(
                f'map image {root / str(record.get("filename"))} is missing and the devkit insists on it; unpack the '
                'metadata archive (it brings maps/) again'
            )


def read_table(path: Path) -> list[dict[str, Any]]:
    """Records of a table.

    Raises:
        UserError: it is no list of records with tokens.
    """
    try:
        table = json.loads(path.read_bytes().decode())
    except (ValueError, RecursionError) as error:
        raise UserError(
            f'table {path} is not valid JSON ({error}); unpack the metadata archive again'
        ) from error
    if not isinstance(table, list) or not all(
        isinstance(r, dict) and isinstance(r.get('token'), str) for r in table
    ):
        raise UserError(
            f'table {path} is no list of records with a token each; unpack the metadata archive again'
        )
    return table


def check_truth(
    ann_file: Path, infos: Sequence[Info], classes: Sequence[str], root: Path, version: str
) -> None:
    """Refuse samples that nothing can be scored on, before anything is trained or predicted.

    Args:
        ann_file: where the samples come from, for messages.
        infos: of the samples.
        classes: that the detector knows.
        root: folder with the tables.
        version: of the tables.

    Raises:
        FileNotFoundError: a table is missing.
        UserError: there is no sample or no ground truth, or the tables know other samples.
    """
    if not infos:
        raise UserError(
            f'nothing to evaluate: {ann_file} holds no samples; choose another split or info file'
        )
    if not all('gt_boxes' in info for info in infos):
        raise UserError(
            f'{ann_file} holds no boxes, so there is no ground truth to evaluate on; say --format-only'
        )
    check_tables(root, version)
    known = {record['token'] for record in read_table(root / version / 'sample.json')}
    unknown = [info['token'] for info in infos if info['token'] not in known]
    if unknown:
        raise UserError(
            f'{len(unknown)} samples of {ann_file} (first {unknown[0]}) are not in {root / version}; it belongs to another '
            'data root or version, make it again with tools/create_data.py'
        )
    table = root / version / 'sample_annotation.json'
    if table.stat().st_size <= _EMPTY_TABLE:
        raise UserError(f'there is no ground truth to evaluate on: {table} is empty; say --format-only')
    _check_boxes(ann_file, infos, classes)


def _check_boxes(ann_file: Path, infos: Sequence[Info], classes: Sequence[str]) -> None:
    """Some box passes the devkit's filter: of a class, in its range around the car, hit by a point."""
    reach = config_factory('detection_cvpr_2019').class_range
    named = near = 0
    for info in infos:
        centres = transform_points(
            info['gt_boxes'][:, :3],
            transform_matrix(info['lidar2ego_rotation'], info['lidar2ego_translation']),
        )
        limit = np.array([reach[str(name)] if name in classes else -1.0 for name in info['gt_names']])
        close = np.hypot(centres[:, 0], centres[:, 1]) < limit
        named += int((limit > 0).sum())
        near += int(close.sum())
        if (close & np.asarray(info.get('valid_flag', True))).any():
            return
    what = (
        f'none is of {", ".join(classes)}'
        if not named
        else f'all {named} boxes of its classes are farther than the devkit scores (30 to 50 m)'
        if not near
        else f'none of the {near} boxes in range has a LiDAR or radar point, and the devkit leaves such boxes out'
    )
    raise UserError(f'there is no ground truth to evaluate on in {ann_file}: {what}')

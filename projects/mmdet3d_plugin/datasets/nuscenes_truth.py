"""Whether nuScenes-like samples can be evaluated: what the devkit will read, and whether it will find a box to score."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.geometry import transform_matrix, transform_points
from projects.mmdet3d_plugin.evaluation.nuscenes_detection import detection_config
from projects.mmdet3d_plugin.evaluation.nuscenes_tables import check_tables, read_table

Info = dict[str, Any]
_EMPTY_TABLE = 8  # bytes: [] and white space


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
    reach = detection_config().class_range
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

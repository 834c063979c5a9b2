"""Open the tables of nuScenes, and say which record does not fit."""

import reprlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nuscenes import NuScenes

from projects.mmdet3d_plugin.common.config_checks.numbers import is_number, is_whole
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.evaluation.nuscenes_tables import TABLES, read_table

UNFIT = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)
"""What the devkit and numpy raise over records that do not fit; :func:`unfit` turns them into words."""
Form = tuple[str, Callable[[Any], bool]]


def _numbers(count: int) -> Form:
    return f'{count} numbers', lambda v: isinstance(v, list) and len(v) == count and all(map(is_number, v))


_TEXT: Form = ('text', lambda v: isinstance(v, str))
_WHOLE: Form = ('a whole number', is_whole)
_MATRIX: Form = (
    '3 x 3 numbers',
    lambda v: v == [] or (isinstance(v, list) and len(v) == 3 and all(_numbers(3)[1](row) for row in v)),
)
FIELDS: dict[str, tuple[Form, tuple[str, ...]]] = {
    'timestamp': (_WHOLE, ('sample', 'sample_data', 'ego_pose')),
    'scene_token': (_TEXT, ('sample',)),
    'sample_token': (_TEXT, ('sample_data', 'sample_annotation')),
    'ego_pose_token': (_TEXT, ('sample_data',)),
    'calibrated_sensor_token': (_TEXT, ('sample_data',)),
    'sensor_token': (_TEXT, ('calibrated_sensor',)),
    'category_token': (_TEXT, ('instance',)),
    'instance_token': (_TEXT, ('sample_annotation',)),
    'attribute_tokens': (('a list', lambda v: isinstance(v, list)), ('sample_annotation',)),
    'log_token': (_TEXT, ('scene',)),
    'first_sample_token': (_TEXT, ('scene',)),
    'nbr_samples': (_WHOLE, ('scene',)),
    'name': (_TEXT, ('scene', 'category', 'attribute')),
    'channel': (_TEXT, ('sensor',)),
    'modality': (_TEXT, ('sensor',)),
    'filename': (_TEXT, ('sample_data',)),
    'is_key_frame': (('true or false', lambda v: isinstance(v, bool)), ('sample_data',)),
    'width': (('a number', is_number), ('sample_data',)),
    'height': (('a number', is_number), ('sample_data',)),
    'size': (_numbers(3), ('sample_annotation',)),
    'num_lidar_pts': (_WHOLE, ('sample_annotation',)),
    'num_radar_pts': (_WHOLE, ('sample_annotation',)),
    'camera_intrinsic': (_MATRIX, ('calibrated_sensor',)),
    'translation': (_numbers(3), ('ego_pose', 'calibrated_sensor', 'sample_annotation')),
    'rotation': (_numbers(4), ('ego_pose', 'calibrated_sensor', 'sample_annotation')),
    'prev': (_TEXT, ('sample', 'sample_data', 'sample_annotation')),
    'next': (_TEXT, ('sample', 'sample_data', 'sample_annotation')),
    'token': (_TEXT, TABLES),
}
"""What a field must be, and the tables that hold it, in the schema of nuScenes."""


def open_tables(root: Path, version: str) -> NuScenes:
    """The devkit's database, without its prints.

    Raises:
        UserError: a table is broken, or holds a token twice; it is named.
    """
    try:
        nusc = NuScenes(version=version, dataroot=str(root), verbose=False)
    except (*UNFIT, RecursionError) as error:
        raise unfit(root / version, error) from error
    for name in TABLES:
        _require_once(root / version / f'{name}.json', 'token', [r['token'] for r in getattr(nusc, name)])
    _require_once(root / version / 'scene.json', 'name', [record.get('name') for record in nusc.scene])
    return nusc


def _require_once(path: Path, field: str, values: list[Any]) -> None:
    if len(set(values)) < len(values):
        value, _ = Counter(values).most_common(1)[0]
        raise UserError(
            f'table {path} holds the {field} {value} more than once; unpack the metadata archive again'
        )


def unfit(folder: Path, error: Exception) -> UserError:
    """The error that names the record which the devkit or the converter stumbled over.

    Args:
        folder: of the tables.
        error: one of ``UNFIT``.
    """
    tables = {name: read_table(folder / f'{name}.json') for name in TABLES}
    if isinstance(error, KeyError) and (where := _without_field(tables, error.args[0])):
        problem = (
            f'refer to a field {error} that is not there (table {", ".join(where)}); they are incomplete'
        )
    elif isinstance(error, KeyError):
        where = _referring(tables, error.args[0])
        problem = f'refer to a record {error} that is not there{where}; they are incomplete'
    elif found := _misformed(tables):
        problem = f'hold a record that does not fit: {found}'
    else:
        problem = f'hold a record that does not fit ({error})'
    return UserError(f'the tables in {folder} {problem}, unpack the metadata archive again')


def _without_field(tables: dict[str, list[dict[str, Any]]], field: str) -> list[str]:
    """Names of the tables that should have a field and have not."""
    _, owners = FIELDS.get(field, (_TEXT, ()))
    return [name for name in owners if any(field not in row for row in tables[name])]


def _referring(tables: dict[str, list[dict[str, Any]]], token: str) -> str:
    """' (table, record, field)' of the first record that names a token."""
    for name, rows in tables.items():
        for row in rows:
            for field, value in row.items():
                refers = field.endswith(('_token', '_tokens')) or field in ('prev', 'next')
                if refers and (value == token or (isinstance(value, list) and token in value)):
                    return f' ({name}.json, record {row["token"]}, {field})'
    return ''


def _misformed(tables: dict[str, list[dict[str, Any]]]) -> str | None:
    """The first record with a value that is not what its field must be."""
    for field, ((wanted, holds), owners) in FIELDS.items():
        for name in owners:
            for row in tables[name]:
                if field in row and not holds(row[field]):
                    return f'{name}.json, record {row["token"]} has {field} {reprlib.repr(row[field])}, which must be {wanted}'
    return None

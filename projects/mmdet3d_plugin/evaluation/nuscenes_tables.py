"""Tables of a data root in nuScenes layout: whether they are there, and what they hold."""

import json
from pathlib import Path
from typing import Any

from projects.mmdet3d_plugin.common.errors import UserError

TABLES = (
    'category', 'attribute', 'visibility', 'instance', 'sensor', 'calibrated_sensor', 'ego_pose', 'log', 'scene',
    'sample', 'sample_data', 'sample_annotation', 'map',
)  # fmt: skip
_ENDS = 64  # bytes: a bracket and some white space


def check_tables(root: Path, version: str) -> None:
    """The 13 tables are there, none of them cut off, and the maps that the devkit insists on.

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
        _check_end(path)
    for record in read_table(root / version / 'map.json'):
        if not (root / str(record.get('filename'))).is_file():
            raise FileNotFoundError(
                f'map image {root / str(record.get("filename"))} is missing and the devkit insists on it; unpack the '
                'metadata archive (it brings maps/) again'
            )


def _check_end(path: Path) -> None:
    """Unpacking that was interrupted cuts a table off; a table of a million records is not parsed to find that out."""
    with open(path, 'rb') as file:
        head = file.read(_ENDS)
        file.seek(max(0, path.stat().st_size - _ENDS))
        tail = file.read()
    if head.lstrip().startswith(b'[') and not tail.rstrip().endswith(b']'):
        raise UserError(f'table {path} is not valid JSON (it is cut off); unpack the metadata archive again')


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

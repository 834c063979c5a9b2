"""Strip a checkpoint to what testing needs."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from projects.mmdet3d_plugin.command_line.parsers import parse_export_student
from projects.mmdet3d_plugin.common.checkpoint import (
    normalise_keys,
    read_checkpoint,
    refuse_non_finite,
    write_checkpoint,
)
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.engine import cli


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of tools/export_student.py."""
    cli.run(_export_from, parse_export_student(argv))


def _export_from(arguments: argparse.Namespace) -> None:
    """Export as parsed arguments say, and print what came out."""
    if Path(arguments.out).exists() and not arguments.force:
        raise UserError(f'{arguments.out} exists: choose another name or say --force')
    notices = export_student(arguments.checkpoint, arguments.out)
    size = Path(arguments.out).stat().st_size / 2**20
    print('\n'.join([*notices, f'wrote {arguments.out}, {size:.1f} MiB']))


def export_student(checkpoint: str | Path, out: str | Path) -> list[str]:
    """Write the student's weights, under plain names, with the meta of the checkpoint.

    Args:
        checkpoint: a checkpoint of a distiller or of a detector.
        out: the file to write.

    Returns:
        notices about what was left out.

    Raises:
        UserError: it cannot be read, holds no student, or weights that are not finite.
    """
    content = read_checkpoint(checkpoint)
    try:
        state, notices = normalise_keys(content['state_dict'], own=(), meta=content['meta'])
    except UserError as error:
        raise UserError(f'{checkpoint}: {error}') from None
    if not state:
        raise UserError(
            f'{checkpoint} holds no student: nothing is left of {len(content["state_dict"])} tensors'
        )
    refuse_non_finite(state, checkpoint)
    extras = sorted(set(content) - {'meta', 'state_dict'})
    if extras:
        notices.append(f'left out {", ".join(extras)}')
    meta = {key: value for key, value in content['meta'].items() if key != 'hook_state'}
    write_checkpoint(out, dict(meta=meta, state_dict=state))
    return notices

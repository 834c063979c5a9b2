"""What distillation gains: a teacher, the student alone, with the inherited head only, and taught by each recipe.

``python tools/benchmark/kd_gain.py --json benchmarks/kd_gain_cpu.json`` makes a synthetic world, trains and evaluates
everything with three seeds, and writes a table and a report. Interrupted, it goes on where it was.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import write_json
from projects.mmdet3d_plugin.engine import cli, launch
from projects.mmdet3d_plugin.studies.gain.choice import choose_rows
from projects.mmdet3d_plugin.studies.gain.compare import compare
from projects.mmdet3d_plugin.studies.gain.families import FAMILIES
from projects.mmdet3d_plugin.studies.gain.plan import GainOptions
from projects.mmdet3d_plugin.studies.training_run import ROOT
from tools.benchmark.timing import machine


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    cli.run(_run, make_parser().parse_args(argv))


def make_parser() -> argparse.ArgumentParser:
    """All options; those that are left out come from the scale of the family."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--family', choices=tuple(FAMILIES), default='camera')
    parser.add_argument(
        '--rows',
        type=_words,
        default=(),
        help='names or recipe files, with commas; the whole table by default',
    )
    parser.add_argument('--scale', choices=('cpu', 'gpu'), default='cpu', help='how much of everything')
    parser.add_argument('--seeds', type=_numbers, help='of the students, with commas: 0,1,2')
    parser.add_argument(
        '--world-seed', type=int, default=0, help="of the world and of the teacher's training"
    )
    parser.add_argument('--world', type=_path, metavar='DIR', help='use this finished world')
    parser.add_argument('--teacher', type=_path, metavar='CKPT', help='use this trained teacher')
    parser.add_argument('--out', type=_path, help='where everything goes; work_dirs/kd_gain/... by default')
    parser.add_argument('--json', metavar='FILE', help='write the figures to this file')
    parser.add_argument('--jobs', type=_positive, help='trainings that run at a time, each on one thread')
    parser.add_argument(
        '--max-minutes',
        type=float,
        help='stop after these, to go on from the last checkpoints when run again',
    )
    parser.add_argument('--scenes', type=int, help='of the world; the last fifth is for validation')
    parser.add_argument('--frames', type=int, help='keyframes per scene')
    parser.add_argument('--size', help='WIDTHxHEIGHT of the images')
    parser.add_argument('--epochs', type=int, help='of every student')
    parser.add_argument('--teacher-epochs', type=int, help='of the teacher')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='override settings of all trainings'
    )
    return parser


def _words(text: str) -> tuple[str, ...]:
    """Words between commas."""
    return tuple(word for word in text.split(',') if word)


def _numbers(text: str) -> tuple[int, ...]:
    """Different numbers between commas."""
    numbers = tuple(int(word) for word in _words(text))
    if not numbers or len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(
            f'{text!r}: different numbers with commas between them, for instance 0,1,2'
        )
    return numbers


def _positive(text: str) -> int:
    """A number above zero."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'{text}: at least 1')
    return number


def _path(text: str) -> Path:
    """A path that commands find too: they run in the root of the project."""
    return Path(text) if Path.cwd() == ROOT else Path(text).resolve()


def options_of(arguments: argparse.Namespace) -> GainOptions:
    """What a parsed command line asks for."""
    family = FAMILIES[arguments.family]
    out = arguments.out or _path(f'work_dirs/kd_gain/{family.name}_{arguments.scale}_{arguments.world_seed}')
    names = ('scenes', 'frames', 'size', 'epochs', 'teacher_epochs', 'seeds', 'jobs')
    chosen = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    if arguments.scale not in family.scales:
        raise UserError(f'--scale {arguments.scale}: the family {family.name} has {", ".join(family.scales)}')
    return GainOptions(
        family,
        choose_rows(family, arguments.rows),
        replace(family.scales[arguments.scale], **chosen),
        arguments.world_seed,
        out,
        arguments.world,
        arguments.teacher,
        tuple(arguments.cfg_options),
    )


def _run(arguments: argparse.Namespace) -> None:
    """Compare as parsed arguments say; an interruption is no error."""
    options = options_of(arguments)
    device = options.scale.device
    launch.start('none', device)  # refuses a GPU that is not there before anything is made
    jobs = options.scale.jobs or len(os.sched_getaffinity(0))
    try:
        results, problem = compare(options, jobs, arguments.max_minutes)
    except KeyboardInterrupt:
        raise SystemExit('\ninterrupted; run again to continue') from None
    if arguments.json:
        write_json(arguments.json, {'machine': machine(device), **results}, indent=2)
    if problem is not None:
        raise problem


if __name__ == '__main__':
    main()

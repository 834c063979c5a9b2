"""What distillation gains: a teacher, the student alone, with the inherited head only, and taught by each recipe.

``python tools/benchmark/kd_gain.py --json benchmarks/kd_gain_cpu.json`` makes a synthetic world, trains and evaluates
everything with three seeds, and writes a table and a report. Interrupted, it goes on where it was.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace

from projects.mmdet3d_plugin.common.config_checks.numbers import POSITIVE, SEED, check_number
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import require_writable_file, write_json
from projects.mmdet3d_plugin.engine import cli, launch
from projects.mmdet3d_plugin.studies.gain.choice import choose_rows
from projects.mmdet3d_plugin.studies.gain.compare import compare
from projects.mmdet3d_plugin.studies.gain.families import FAMILIES
from projects.mmdet3d_plugin.studies.gain.plan import GainOptions
from tools.benchmark.options import from_root, parse_kd_gain
from tools.benchmark.timing import machine


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    cli.run(_run, parse_kd_gain(argv))


def options_of(arguments: argparse.Namespace) -> GainOptions:
    """What a parsed command line asks for."""
    if arguments.family not in FAMILIES:
        raise UserError(f'--family {arguments.family}: there are {", ".join(FAMILIES)}')
    check_number('--world-seed', arguments.world_seed, SEED)
    check_number('--max-minutes', arguments.max_minutes, POSITIVE)
    if arguments.world and not arguments.world.is_dir():
        raise UserError(f'--world {arguments.world}: there is no such folder')
    if arguments.teacher and not arguments.teacher.is_file():
        raise UserError(f'--teacher {arguments.teacher}: there is no such checkpoint')
    family = FAMILIES[arguments.family]
    out = arguments.out or from_root(
        f'work_dirs/kd_gain/{family.name}_{arguments.scale}_{arguments.world_seed}'
    )
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
    if arguments.json:
        require_writable_file(arguments.json)
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

"""``tools/self_train.py``: from one label per frame to a detector that has labelled the rest itself."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from projects.mmdet3d_plugin.command_line.parsers import parse_self_train
from projects.mmdet3d_plugin.common.config import innermost_datasets
from projects.mmdet3d_plugin.common.files import locked_folder, read_metrics, write_json, write_link
from projects.mmdet3d_plugin.common.tables import POINTS, make_console
from projects.mmdet3d_plugin.datasets.sparse.instance_bank import InstanceBank
from projects.mmdet3d_plugin.engine import cli
from projects.mmdet3d_plugin.studies.self_training.plan import (
    Iteration,
    SelfTrainOptions,
    SelfTrainPlan,
    shown_path,
)
from projects.mmdet3d_plugin.studies.stages import StageRunner
from projects.mmdet3d_plugin.studies.training_run import ROOT, cached_config

HEADLINES = ('mAP_3d_R40_moderate', *POINTS)
"""Metrics that a table begins with, where an evaluation has them."""


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of tools/self_train.py."""
    cli.run(_self_train_from, parse_self_train(argv))


def _self_train_from(arguments: argparse.Namespace) -> None:
    """Run as parsed arguments say; an interruption is no error."""
    options = options_of(arguments)
    try:
        # a plan writes the configs that the stages of another run would find changed
        with locked_folder(options.out):
            self_train(SelfTrainPlan(options))
    except KeyboardInterrupt:
        raise SystemExit('\ninterrupted; run again to continue') from None


def options_of(arguments: argparse.Namespace) -> SelfTrainOptions:
    """Options of a parsed command line; stages always resume, so that ``--resume`` changes nothing."""
    settings = cached_config(arguments.config)
    root = arguments.data_root or next(innermost_datasets(settings.data.train))['data_root']
    flags = ['--device', arguments.device]
    for name in ('amp', 'threads'):
        if getattr(arguments, name) is not None:
            flags += [f'--{name}', str(getattr(arguments, name))]
    training = [
        f'--{name}' for name in ('no-validate', 'deterministic') if getattr(arguments, name.replace('-', '_'))
    ]
    out = arguments.work_dir or Path('work_dirs') / Path(arguments.config).stem
    return SelfTrainOptions(
        arguments.config,
        shown_path(Path(root)),
        shown_path(Path(out)),
        seed=settings.get('seed', 0) if arguments.seed is None else arguments.seed,
        processes=arguments.processes,
        overrides=arguments.cfg_options,
        flags=tuple(flags),
        training_flags=tuple(training),
    )


def self_train(plan: SelfTrainPlan, console: Console | None = None) -> list[dict[str, Any]]:
    """Run what is not finished, print the table, and leave ``self_training.json`` and the last checkpoint.

    Args:
        plan: of the self-training.
        console: where to talk.

    Returns:
        One record per iteration: ``iteration``, ``metrics``, after the first ``counts`` and ``thresholds`` of its bank, and
        where a labeller was trained beside it, its metrics, ``labeller``.
    """
    console = console or make_console()
    out = plan.options.out
    StageRunner(out / 'stages', plan.stages(), ROOT, console).run()
    records = [_record(plan, iteration) for iteration in plan.iterations]
    write_json(out / 'self_training.json', records, indent=1)
    last = plan.iterations[-1].run.checkpoint
    write_link(out / last.name, os.path.relpath(last, out))
    console.rule(style='dim')
    console.print(result_table(records))
    console.print(f'checkpoint: {out / last.name}', soft_wrap=True)
    return records


def _record(plan: SelfTrainPlan, iteration: Iteration) -> dict[str, Any]:
    record: dict[str, Any] = dict(
        iteration=iteration.number, metrics=read_metrics(plan.evaluation(iteration.run))
    )
    if iteration.labeller is not None:
        record['labeller'] = read_metrics(plan.evaluation(iteration.labeller))
    if iteration.bank is not None:
        header = InstanceBank.load(iteration.bank).header
        record |= dict(counts=header['counts'], thresholds=header['thresholds'])
    return record


def result_table(records: Sequence[dict[str, Any]]) -> Table:
    """A row per iteration: what was mined of each class at which score, and the metrics in points, the labeller's last."""
    metrics = [name for name in HEADLINES if name in records[0]['metrics']]
    metrics += [name for name in records[0]['metrics'] if name.startswith('AP_3d_R40_moderate/')]
    classes = list(records[-1].get('counts', {}))
    table = Table(title='Self-training', title_justify='left')
    labelled = metrics[:1] if any('labeller' in record for record in records) else []
    labellers = [f'{name}, labeller' for name in labelled]
    for name in ('bank', *(f'{name} mined' for name in classes), *metrics, *labellers):
        table.add_column(name, justify='right')
    for record in records:
        mined = ['-'] * len(classes)
        if 'counts' in record:
            mined = [
                f'{record["counts"][name]["accepted"]} from {record["thresholds"][name]["score"]:.2f}'
                for name in classes
            ]
        figures = [f'{100 * record["metrics"][name]:.2f}' for name in metrics]
        own = record.get('labeller', {})
        figures += [f'{100 * own[name]:.2f}' if own else '-' for name in labelled]
        table.add_row(str(record['iteration'] or 'none'), *mined, *figures)
    return table

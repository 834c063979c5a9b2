"""Run a comparison from nothing, or from where it stopped, to its tables and its report."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.tables import make_console
from projects.mmdet3d_plugin.studies.gain.page import write_page
from projects.mmdet3d_plugin.studies.gain.plan import GainOptions, Plan, make_plan
from projects.mmdet3d_plugin.studies.gain.results import read_results
from projects.mmdet3d_plugin.studies.gain.summary import Summary, as_json, summarize
from projects.mmdet3d_plugin.studies.gain.tables import print_summary
from projects.mmdet3d_plugin.studies.side_by_side import SideBySideRunner
from projects.mmdet3d_plugin.studies.stages import StageRunner
from projects.mmdet3d_plugin.studies.training_run import ROOT, check_trainings

# processes that run side by side must not fight for cores
ONE_THREAD = {'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1'}


def compare(
    options: GainOptions, jobs: int, max_minutes: float | None = None, console: Console | None = None
) -> tuple[dict[str, Any], UserError | None]:
    """Run what is not finished; print and report what is.

    Args:
        options: what to compare.
        jobs: how many commands run at a time, each on one thread.
        max_minutes: when these are over, stop, to be started again.
        console: where to talk.

    Returns:
        The results as plain data, and the reason why they are not complete, None when they are.
    """
    console = console or make_console()
    plan = make_plan(options)
    check_trainings(run for pair in plan.pairs for run in pair.runs if run.trained is None)
    runner = SideBySideRunner(
        options.out, plan.stages(), ROOT, console, jobs=jobs, variables=ONE_THREAD, max_minutes=max_minutes
    )
    problem = None
    try:
        runner.run()
    except UserError as error:  # what is finished is worth a report
        problem = error
    return report_results(plan, runner, console), problem


def report_results(plan: Plan, runner: StageRunner, console: Console) -> dict[str, Any]:
    """Print and report what is finished; returns it as plain data."""
    summaries = [summarize(result, plan.options.family) for result in read_results(plan, runner)]
    console.rule(style='dim')
    for summary in summaries:
        print_summary(summary, plan.options.family, console)
    path = write_page(plan, runner, summaries)
    console.print(f'report: {path.resolve()}', soft_wrap=True)
    return _as_json(plan, summaries)


def _as_json(plan: Plan, summaries: Sequence[Summary]) -> dict[str, Any]:
    """Plain data; files by name, since a record is read on other machines."""
    options = plan.options
    scale = options.scale
    return {
        'family': options.family.name,
        'metric': options.family.headline.title,
        'world': options.world_in_words,
        'world_seed': options.world_seed,
        'seeds': list(scale.seeds),
        'epochs': scale.epochs,
        'teacher_epochs': None if options.teacher else scale.teacher_epochs,
        'teacher_checkpoint': options.teacher.name if options.teacher else None,
        'overrides': [*scale.overrides, *options.overrides],
        'pairs': {summary.result.pair.teacher.name: as_json(summary) for summary in summaries},
    }

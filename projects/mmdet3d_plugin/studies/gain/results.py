"""What the finished stages of a comparison left."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from projects.mmdet3d_plugin.common.files import read_metrics
from projects.mmdet3d_plugin.studies.gain.families import Metric, Pair, Row
from projects.mmdet3d_plugin.studies.gain.plan import Plan, PlannedPair
from projects.mmdet3d_plugin.studies.stages import StageRunner
from projects.mmdet3d_plugin.visualization.loss_curves import read_training_log


@dataclass(frozen=True)
class Cost:
    """What a training took.

    Attributes:
        seconds: on the clock.
        cpu_seconds: of all cores; what other programs disturb least.
        step_seconds: median time of a step on the clock.
        peak_bytes: most resident memory.
        gpu_bytes: most memory that torch held on the GPU, None on CPU.
        attempts: 1 when it ran through; steps that were repeated after an interruption count again in the seconds.
    """

    seconds: float
    cpu_seconds: float
    step_seconds: float
    peak_bytes: float
    gpu_bytes: float | None
    attempts: int


@dataclass(frozen=True)
class PairResult:
    """What is known of a pair so far.

    Attributes:
        pair: teacher, student, recipes.
        rows: that were asked for, the student alone first.
        teacher: metrics of the teacher as ``metrics.json`` has them, None before it is evaluated.
        metrics: row name -> seed -> metrics.
        costs: row name -> seed -> what its training took.
        others: further teacher's name -> its metrics.
    """

    pair: Pair
    rows: tuple[Row, ...]
    teacher: dict[str, float] | None
    metrics: dict[str, dict[int, dict[str, float]]]
    costs: dict[str, dict[int, Cost]]
    others: dict[str, dict[str, float]] = field(default_factory=dict)

    def values(self, row: str, metric: Metric) -> dict[int, float]:
        """Seed -> scaled metric of a row."""
        return {seed: metric.scale * found[metric.key] for seed, found in self.metrics[row].items()}

    def row(self, name: str) -> Row | None:
        """A row that was asked for, by name."""
        return next((row for row in self.rows if row.name == name), None)


def read_results(plan: Plan, runner: StageRunner) -> list[PairResult]:
    """Collect what is finished, and only what belongs to these very settings."""
    finished = runner.finished_stages()
    return [_read_pair(planned, plan, runner, finished) for planned in plan.pairs]


def _read_pair(planned: PlannedPair, plan: Plan, runner: StageRunner, finished: set[str]) -> PairResult:
    rows = planned.choice.rows
    result = PairResult(
        planned.choice.pair, rows, None, {row.name: {} for row in rows}, {row.name: {} for row in rows}
    )
    for (name, seed), run in planned.students.items():
        if f'evaluate_{run.name}' in finished:
            result.metrics[name][seed] = read_metrics(plan.evaluation(run), 'delete it and run again')
        if run.name in finished:
            result.costs[name][seed] = _read_cost(run.logs, runner.read_stamp(run.name))
    teachers = {
        run.name: read_metrics(plan.evaluation(run), 'delete it and run again')
        for run in (planned.teacher, *planned.others)
        if f'evaluate_{run.name}' in finished
    }
    main = teachers.pop(planned.teacher.name, None)
    return PairResult(result.pair, rows, main, result.metrics, result.costs, teachers)


def _read_cost(folder: Path, stamp: dict) -> Cost:
    """What a training took, from its stamp and its log."""
    values = read_training_log(folder).values
    memory = values.get('memory')
    return Cost(
        seconds=stamp['seconds'],
        cpu_seconds=stamp['cpu_seconds'],
        step_seconds=float(np.nanmedian(values['time'])),
        peak_bytes=stamp['peak_bytes'],
        gpu_bytes=None if memory is None else float(np.nanmax(memory)) * 2**20,
        attempts=stamp['attempts'],
    )


def ratio_of(costs: dict[int, Cost], base: dict[int, Cost], name: str) -> float | None:
    """How much more of something a row takes than another one, the mean over common seeds of ratios.

    Args:
        costs: by seed.
        base: by seed.
        name: of an attribute of :class:`Cost`; for ``cpu_seconds`` and ``seconds`` only trainings that ran through
            take part.

    Returns:
        None when nothing can be compared.
    """
    pairs = [(costs[seed], base[seed]) for seed in costs.keys() & base.keys()]
    if name in ('seconds', 'cpu_seconds'):
        pairs = [pair for pair in pairs if all(cost.attempts == 1 for cost in pair)]
    values = [(getattr(one, name), getattr(other, name)) for one, other in pairs]
    return _mean(one / other for one, other in values if one is not None and other)


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return statistics.fmean(values) if values else None

"""Keep the figures of a finished demo in benchmarks/."""

import datetime
import json
from pathlib import Path

from projects.mmdet3d_plugin.common.tables import ERRORS, POINTS, make_console
from projects.mmdet3d_plugin.studies.demo import DemoOptions, Outcome, demo_stages, read_outcomes
from projects.mmdet3d_plugin.studies.stages import StageRunner
from tools.benchmark.timing import machine
from tools.docs.results import BENCHMARKS


def record_demo(folder: Path) -> None:
    """Write ``benchmarks/demo_cpu.json`` from what ``make demo`` left in a folder."""
    options = DemoOptions(out=folder)
    validation = options.scenes // 5
    content = {
        'machine': {**machine('cpu'), 'command': 'make demo'},
        'measured': datetime.date.today().isoformat(),
        'cpu_minutes': cpu_minutes_of(options),
        'world': {
            'scenes': options.scenes,
            'training_scenes': options.scenes - validation,
            'validation_scenes': validation,
            'seed': options.seed,
        },
        'models': [figures(outcome) for outcome in read_outcomes(options)],
    }
    (BENCHMARKS / 'demo_cpu.json').write_text(json.dumps(content, indent=2) + '\n')


def cpu_minutes_of(options: DemoOptions) -> int:
    """What all stages took of all cores together, which does not depend on what else the machine does."""
    stages = demo_stages(options)
    runner = StageRunner(options.out, stages, Path(), make_console())
    return round(sum(runner.read_stamp(stage.name)['cpu_seconds'] for stage in stages) / 60)


def figures(outcome: Outcome) -> dict[str, str | float]:
    """One model's row: points, errors, millions of parameters, GFLOPs, milliseconds."""
    metrics = outcome.metrics
    return {
        'model': outcome.contender.title,
        **{name: round(100 * metrics[name], 2) for name in POINTS},
        **{name: round(metrics[name], 3) for name in ERRORS},
        'parameters_m': round(outcome.cost['total']['parameters'] / 1e6, 2),
        'gflops': round(outcome.cost['total']['computed'] / 1e9, 2),
        'ms_per_frame': round(outcome.milliseconds, 1),
    }

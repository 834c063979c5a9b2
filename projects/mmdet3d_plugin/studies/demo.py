"""``make demo``: from nothing to a distilled detector, a table and a report, on two CPU cores.

A synthetic world; a scaled-down teacher; the same student twice, alone and distilled; all three evaluated by the
nuScenes devkit. Every step is a command that a person could type, and is shown as such.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from projects.mmdet3d_plugin.command_line.parsers import parse_demo, parse_size
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import read_json, read_metrics
from projects.mmdet3d_plugin.common.tables import ERRORS, POINTS, format_metric, make_console
from projects.mmdet3d_plugin.engine import cli
from projects.mmdet3d_plugin.hosts.backbones.timm_backbone import find_weights
from projects.mmdet3d_plugin.studies.provenance import add_provenance
from projects.mmdet3d_plugin.studies.stages import Stage, StageRunner
from projects.mmdet3d_plugin.studies.training_run import (
    DISTIL,
    ROOT,
    TRAIN,
    TrainingRun,
    as_text,
    check_trainings,
)
from projects.mmdet3d_plugin.visualization.loss_curves import draw_curves, read_training_log
from projects.mmdet3d_plugin.visualization.report import Report
from projects.mmdet3d_plugin.worlds.create import WorldSpec, check_spec

CONFIGS = 'projects/configs/synthetic'
VERSION = 'v1.0-trainval'
AGAIN = 'delete it and run again'
_LEAST_SCENES = 2


@dataclass(frozen=True)
class Contender:
    """One of the three models.

    Attributes:
        name: names its folders.
        title: for tables.
        config: what it is trained with.
        tool: script that trains it.
        minutes: about how long that takes.
        overrides: settings of its config to override, ``key=value``.
    """

    name: str
    title: str
    config: str
    tool: str
    minutes: float
    overrides: tuple[str, ...] = ()


CONTENDERS = (
    Contender(
        'teacher', 'teacher', f'{CONFIGS}/bevformer_near_teacher.py', TRAIN, 8.0, ('runner.max_epochs=2',)
    ),
    Contender(
        'student',
        'student alone',
        f'{CONFIGS}/bevformer_near_student.py',
        TRAIN,
        2.0,
        ('runner.max_epochs=1',),
    ),
    Contender(
        'distilled',
        'student distilled',
        f'{CONFIGS}/distill_near_fd3d_gate.py',
        DISTIL,
        4.5,
        ('runner.max_epochs=1', 'distiller.teacher.cache_dir=None'),  # which serves several recipes
    ),
)


@dataclass(frozen=True)
class DemoOptions:
    """What may be chosen.

    Attributes:
        out: folder of everything that the demo makes.
        scenes: how many scenes the world has; the last fifth is for validation.
        seed: of the world and of training.
        size: WIDTHxHEIGHT of its images.
        frames: keyframes per scene; more scenes of fewer frames teach more than the other way round.
        cfg_options: settings of all three trainings to override, ``key=value``.
    """

    out: Path = Path('work_dirs/demo')
    scenes: int = 200
    seed: int = 0
    size: str = '320x180'
    frames: int = 5
    cfg_options: tuple[str, ...] = ()

    @property
    def world(self) -> Path:
        """Folder of the synthetic dataset."""
        return self.out / 'world'

    def metrics(self, contender: Contender) -> Path:
        """The file that an evaluation leaves."""
        return self.out / 'evaluation' / contender.name / 'metrics.json'

    def run_of(self, contender: Contender) -> TrainingRun:
        """A contender's training; the distilled student's needs the teacher's result."""
        overrides, after = (*contender.overrides, *self.cfg_options), ('infos',)
        if contender.name == 'distilled':
            checkpoint = self.run_of(CONTENDERS[0]).checkpoint
            overrides += (f'distiller.teacher.checkpoint={checkpoint}',)
            after += ('teacher',)
        return TrainingRun(
            contender.name,
            contender.title,
            contender.config,
            contender.tool,
            folder=self.out / contender.name,
            world=self.world,
            seed=self.seed,
            overrides=overrides,
            after=after,
            minutes=contender.minutes,
        )


def check_options(options: DemoOptions) -> None:
    """Refuse before the first stage what a later one would refuse.

    Raises:
        UserError: such a world cannot be made, a setting to override is in no config, or the pretrained weights that a
            teacher starts from are not there.
    """
    if options.scenes < _LEAST_SCENES:
        raise UserError(
            f'--scenes is {options.scenes}: ask for at least {_LEAST_SCENES}, one of them to validate on'
        )
    check_spec(WorldSpec(options.scenes, options.seed, *parse_size(options.size), options.frames))
    runs = [options.run_of(contender) for contender in CONTENDERS]
    check_trainings(runs)
    for run in runs:
        backbone = run.settings.model.img_backbone.get('backbone') or {}
        if backbone.get('weights'):
            find_weights(backbone.weights)


def demo_stages(options: DemoOptions) -> list[Stage]:
    """All stages but the report, in order."""
    runs = [options.run_of(contender) for contender in CONTENDERS]
    kinds = ('overview', 'heatmap')
    return [
        *_data_stages(options),
        *(run.train() for run in runs),
        *(run.evaluate(options.out / 'evaluation' / run.name) for run in runs),
        *(_cost_stage(run, options) for run in runs[:2]),
        _latency_stage(runs, options),
        *(run.draw(options.out / 'pictures' / run.name, samples=2, kinds=kinds) for run in runs),
    ]


def _data_stages(options: DemoOptions) -> list[Stage]:
    world = str(options.world)
    make = ('tools/create_synthetic.py', '--out', world, '--scenes', str(options.scenes))
    make += ('--seed', str(options.seed), '--size', options.size, '--frames', str(options.frames))
    make += ('--reach', '18', '--pace', '0.5')  # near and slow, so that a few minutes teach something
    convert = ('tools/create_data.py', 'nuscenes', '--root-path', world, '--version', VERSION)
    infos = tuple(options.world / f'nuscenes_infos_temporal_{part}.pkl' for part in ('train', 'val'))
    tables = (options.world / VERSION / 'sample.json',)
    return [
        # the tool itself goes on where it stopped, and says so when another world is in the way
        Stage('world', 'Make a synthetic world', make, tables, folder=options.world, minutes=0.4),
        Stage('infos', 'Make info files', convert, infos, after=('world',), minutes=0.2),
    ]


def _cost_stage(run: TrainingRun, options: DemoOptions) -> Stage:
    target = options.out / 'cost' / f'{run.name}.json'
    command = ('tools/analysis_tools/get_flops.py', run.config, '--json', str(target))
    title = f'Count what the {run.name} costs'
    return Stage(f'cost_{run.name}', title, command, (target,), inputs=(as_text(run.settings),))


def _latency_stage(runs: Sequence[TrainingRun], options: DemoOptions) -> Stage:
    target = options.out / 'cost' / 'latency.json'
    command = ('tools/analysis_tools/benchmark.py', *(run.config for run in runs), '--json', str(target))
    inputs = tuple(as_text(run.settings) for run in runs)
    return Stage('latency', 'Time all three', command, (target,), inputs=inputs, minutes=0.15)


@dataclass(frozen=True)
class Outcome:
    """What came out for one contender.

    Attributes:
        contender: whom it is about.
        metrics: of the devkit, as fractions.
        cost: what ``get_flops.py --json`` wrote.
        milliseconds: per frame.
    """

    contender: Contender
    metrics: dict[str, float]
    cost: dict
    milliseconds: float

    def row(self) -> list[str]:
        """Cells of the result table."""
        metrics = [format_metric(name, self.metrics[name]) for name in (*POINTS, *ERRORS)]
        total = self.cost['total']
        return [
            self.contender.title,
            *metrics,
            f'{total["parameters"] / 1e6:.2f}',
            f'{total["computed"] / 1e9:.2f}',
            f'{self.milliseconds:.1f}',
        ]


COLUMNS = ('model', *POINTS, *ERRORS, 'params, M', 'GFLOPs', 'ms/frame')
BEST = {1: max, 2: max, **dict.fromkeys(range(3, 8), min)}


def read_outcomes(options: DemoOptions) -> list[Outcome]:
    """Collect what the stages wrote; the distilled student costs what the student costs."""
    latency = read_json(options.out / 'cost' / 'latency.json', AGAIN)['models']
    outcomes = []
    for contender, timing in zip(CONTENDERS, latency, strict=True):
        twin = 'teacher' if contender.name == 'teacher' else 'student'
        cost = read_json(options.out / 'cost' / f'{twin}.json', AGAIN)
        metrics = read_metrics(options.metrics(contender), AGAIN)
        outcomes.append(Outcome(contender, metrics, cost, timing['median_ms']))
    return outcomes


def print_outcomes(outcomes: Sequence[Outcome], console: Console) -> None:
    """The final table, one column per model so that it fits a narrow terminal."""
    table = Table(title='Validation scenes of the synthetic world, nuScenes devkit', title_justify='left')
    rows = [outcome.row() for outcome in outcomes]
    for heading in (COLUMNS[0], *(row[0] for row in rows)):
        table.add_column(heading, justify='left' if heading == COLUMNS[0] else 'right')
    for i, name in enumerate(COLUMNS[1:], 1):
        table.add_row(name, *(row[i] for row in rows), end_section=name in (POINTS[-1], ERRORS[-1]))
    console.print(table)


def write_report(options: DemoOptions, runner: StageRunner, outcomes: Sequence[Outcome]) -> Path:
    """Write ``report.html`` and return its path."""
    teacher, student, distilled = outcomes
    gain = 100 * (distilled.metrics['NDS'] - student.metrics['NDS'])
    report = Report(
        'FocalDistiller demo',
        'A scaled-down BEVFormer teaches a smaller one on a synthetic world of near objects, by FD3D with a gate. The '
        "teacher's image backbone is ImageNet's, and part of what the student gains is the head that it inherits. The "
        'figures show that everything works together; they say nothing about nuScenes.',
    )
    scores = {
        f'NDS, {outcome.contender.title}': f'{100 * outcome.metrics["NDS"]:.2f}' for outcome in outcomes
    }
    report.cards({**scores, 'NDS gained by distillation': f'{gain:+.2f}'})
    report.heading('Result')
    report.table(COLUMNS, [outcome.row() for outcome in outcomes], BEST)
    report.paragraph(
        'NDS and mAP in points, errors of true positives as the devkit defines them (less is better), on the '
        'validation scenes. GFLOPs: 1e9 multiply-accumulates of one frame with six cameras.'
    )
    _add_classes(report, outcomes)
    _add_costs(report, teacher, student)
    _add_curves(report, options)
    _add_pictures(report, options)
    facts = {
        'configs': ', '.join(contender.config for contender in CONTENDERS),
        'world': f'{options.scenes} scenes of {options.frames} frames, seed {options.seed}, {options.size}',
    }
    add_provenance(report, runner, facts)
    return report.write(options.out / 'report.html')


def _add_classes(report: Report, outcomes: Sequence[Outcome]) -> None:
    """Average precision by class."""
    keys = [key for key in outcomes[0].metrics if key.startswith('AP/')]
    columns = ['AP', *(key.removeprefix('AP/').replace('_', ' ') for key in keys)]
    rows = [
        [outcome.contender.title, *(f'{100 * outcome.metrics[key]:.1f}' for key in keys)]
        for outcome in outcomes
    ]
    report.table(columns, rows, dict.fromkeys(range(1, len(columns)), max))


def _add_costs(report: Report, *outcomes: Outcome) -> None:
    """Costs by part."""
    report.heading('Cost')
    columns = [
        'model and part',
        'trainable, M',
        'parameters, M',
        'computed, GFLOPs',
        'published rule, GFLOPs',
    ]
    rows = []
    for outcome in outcomes:
        parts = {**outcome.cost['parts'], 'total': outcome.cost['total']}
        for part, cost in parts.items():
            figures = [cost['trainable'] / 1e6, cost['parameters'] / 1e6]
            figures += [cost['computed'] / 1e9, cost['published'] / 1e9]
            rows.append([f'{outcome.contender.name}, {part}', *(f'{figure:.2f}' for figure in figures)])
    report.table(columns, rows)


def _add_curves(report: Report, options: DemoOptions) -> None:
    """Losses over the epochs."""
    logs = {contender.title: read_training_log(options.out / contender.name) for contender in CONTENDERS}
    report.heading('Training')
    curves = {title: (log.epochs, log.values['loss']) for title, log in logs.items()}
    charts = {'Sum of all losses; that of the distilled student has more terms.': draw_curves(curves, 'loss')}
    detection = {
        title: (log.epochs, log.values['loss_cls'] + log.values['loss_bbox']) for title, log in logs.items()
    }
    charts['Detection loss of the last decoder layer.'] = draw_curves(detection, 'detection loss')
    student, distilled = logs['student alone'], logs['student distilled']
    terms = [name for name in distilled.values if name.startswith('loss') and name not in student.values]
    if terms:
        drawn = {name: (distilled.epochs, distilled.values[name]) for name in terms}
        charts['Distillation terms.'] = draw_curves(drawn, 'distillation loss', log_scale=True)
    report.charts(charts)


def _add_pictures(report: Report, options: DemoOptions) -> None:
    """The same moments as each model sees them."""
    report.heading('Pictures')
    report.paragraph(
        'Coloured: detected. White: true. Coloured front faces and strokes show where objects head.'
    )
    first = sorted((options.out / 'pictures' / 'teacher').glob('*_overview.jpg'))
    for picture in first:
        for contender in CONTENDERS:
            report.picture(options.out / 'pictures' / contender.name / picture.name, contender.title)
    regions = {'teacher': 'the region that is distilled'}
    report.gallery(
        {
            f'BEV feature of the {contender.title}; contours: '
            f'{regions.get(contender.name, "the same on its own grid")}': picture
            for contender in CONTENDERS
            for picture in sorted((options.out / 'pictures' / contender.name).glob('*_heatmap.jpg'))[:1]
        }
    )


def run_demo(options: DemoOptions, console: Console | None = None) -> Path:
    """Run what is not finished, print the table, and write the report; returns its path."""
    console = console or make_console()
    runner = StageRunner(options.out, demo_stages(options), ROOT, console)
    runner.run()
    outcomes = read_outcomes(options)
    report = write_report(options, runner, outcomes)
    console.rule(style='dim')
    print_outcomes(outcomes, console)
    console.print(f'report: {report.resolve()}', soft_wrap=True)
    return report


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of tools/demo.py."""
    cli.run(_demo_from, parse_demo(argv))


def _demo_from(arguments: argparse.Namespace) -> None:
    """Run as parsed arguments say; an interruption is no error."""
    given = vars(arguments)
    options = DemoOptions(**{**given, 'cfg_options': tuple(given.get('cfg_options', ()))})
    check_options(options)
    try:
        run_demo(options)
    except KeyboardInterrupt:
        raise SystemExit('\ninterrupted; run again to continue') from None

"""``make demo``: from nothing to a distilled detector, a table and a report, on two CPU cores.

A synthetic world; a pint-sized teacher; the same student twice, alone and distilled; all three evaluated by the
nuScenes devkit. Every step is a command that a person could type, and is shown as such.
"""

import argparse
import functools
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmcv import Config, DictAction
from rich.console import Console
from rich.table import Table

from projects.mmdet3d_plugin.engine import cli
from projects.mmdet3d_plugin.engine.config import load_config
from projects.mmdet3d_plugin.engine.logs import versions
from projects.mmdet3d_plugin.engine.stages import Stage, StageRunner, clock
from projects.mmdet3d_plugin.engine.tables import ERRORS, POINTS, format_metric
from projects.mmdet3d_plugin.visualization.loss_curves import draw_curves, read_training_log
from projects.mmdet3d_plugin.visualization.report import Report

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = 'projects/configs/synthetic'
VERSION = 'v1.0-trainval'


@dataclass(frozen=True)
class Contender:
    """One of the three models.

    Attributes:
        name: names its folders.
        title: for tables.
        config: what it is trained with.
        tool: script that trains it.
        minutes: about how long that takes.
    """

    name: str
    title: str
    config: str
    tool: str
    minutes: float


CONTENDERS = (
    Contender('teacher', 'teacher', f'{CONFIGS}/bevformer_teacher.py', 'tools/train.py', 7.0),
    Contender('student', 'student alone', f'{CONFIGS}/bevformer_student.py', 'tools/train.py', 2.5),
    Contender(
        'distilled', 'student distilled', f'{CONFIGS}/distill_heatmap.py', 'tools/distillation.py', 4.5
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
    scenes: int = 100
    seed: int = 0
    size: str = '320x180'
    frames: int = 5
    cfg_options: tuple[str, ...] = ()

    @property
    def world(self) -> Path:
        """Folder of the synthetic dataset."""
        return self.out / 'world'

    def checkpoint(self, contender: Contender) -> Path:
        """The file that a finished training leaves."""
        return self.out / contender.name / f'epoch_{self.config(contender).runner.max_epochs}.pth'

    def metrics(self, contender: Contender) -> Path:
        """The file that an evaluation leaves."""
        return self.out / 'evaluation' / contender.name / 'metrics.json'

    def config(self, contender: Contender) -> Config:
        """A contender's config with the overrides."""
        return _read_config(contender.config, self.cfg_options)

    def settings(self, contender: Contender) -> str:
        """A contender's config as one text, all its bases included."""
        return json.dumps(self.config(contender)._cfg_dict.to_dict(), sort_keys=True)


@functools.cache
def _read_config(config: str, options: tuple[str, ...]) -> Config:
    """A config with overrides, to be read only."""
    return load_config(ROOT / config, _as_dict(options))


def _as_dict(options: Sequence[str]) -> dict:
    """``key=value`` words to what ``merge_from_dict`` takes."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--options', nargs='*', action=DictAction, default={})
    return parser.parse_args(['--options', *options]).options


def demo_stages(options: DemoOptions) -> list[Stage]:
    """All stages but the report, in order."""
    return [
        *_data_stages(options),
        *(_training_stage(contender, options) for contender in CONTENDERS),
        *(_evaluation_stage(contender, options) for contender in CONTENDERS),
        *(_cost_stage(contender, options) for contender in CONTENDERS[:2]),
        _latency_stage(options),
        *(_picture_stage(contender, options) for contender in CONTENDERS),
    ]


def _data_stages(options: DemoOptions) -> list[Stage]:
    world = str(options.world)
    make = ('tools/create_synthetic.py', '--out', world, '--scenes', str(options.scenes))
    make += ('--seed', str(options.seed), '--size', options.size, '--frames', str(options.frames))
    convert = ('tools/create_data.py', 'nuscenes', '--root-path', world, '--version', VERSION)
    infos = tuple(options.world / f'nuscenes_infos_temporal_{part}.pkl' for part in ('train', 'val'))
    tables = (options.world / VERSION / 'sample.json',)
    return [
        # the tool itself goes on where it stopped, and says so when another world is in the way
        Stage('world', 'Make a synthetic world', make, tables, folder=options.world, minutes=1.5),
        Stage('infos', 'Make info files', convert, infos, after=('world',), minutes=0.2),
    ]


def _training_stage(contender: Contender, options: DemoOptions) -> Stage:
    folder = options.out / contender.name
    command = [contender.tool, contender.config, '--data-root', str(options.world)]
    command += ['--work-dir', str(folder), '--seed', str(options.seed), '--resume', 'auto']
    overrides, after = list(options.cfg_options), ['infos']
    if contender.name == 'distilled':
        overrides.append(f'distiller.teacher.checkpoint={options.checkpoint(CONTENDERS[0])}')
        after.append('teacher')
    if overrides:
        command += ['--cfg-options', *overrides]
    return Stage(
        contender.name,
        f'Train the {contender.title}',
        tuple(command),
        (options.checkpoint(contender),),
        after=tuple(after),
        inputs=(options.settings(contender),),
        folder=folder,
        minutes=contender.minutes,
    )


def _evaluation_stage(contender: Contender, options: DemoOptions) -> Stage:
    target = options.metrics(contender)
    command = ('tools/test.py', contender.config, str(options.checkpoint(contender)), '--eval', 'bbox')
    command += ('--data-root', str(options.world), '--out-dir', str(target.parent))
    return Stage(
        f'evaluate_{contender.name}',
        f'Evaluate the {contender.title}',
        command,
        (target,),
        after=(contender.name,),
        minutes=0.5,
    )


def _cost_stage(contender: Contender, options: DemoOptions) -> Stage:
    target = options.out / 'cost' / f'{contender.name}.json'
    command = ('tools/analysis_tools/get_flops.py', contender.config, '--json', str(target))
    inputs = (options.settings(contender),)
    title = f'Count what the {contender.name} costs'
    return Stage(f'cost_{contender.name}', title, command, (target,), inputs=inputs)


def _latency_stage(options: DemoOptions) -> Stage:
    target = options.out / 'cost' / 'latency.json'
    command = ('tools/analysis_tools/benchmark.py', *(c.config for c in CONTENDERS), '--json', str(target))
    inputs = tuple(options.settings(contender) for contender in CONTENDERS)
    return Stage('latency', 'Time all three', command, (target,), inputs=inputs, minutes=0.3)


def _picture_stage(contender: Contender, options: DemoOptions) -> Stage:
    folder = options.out / 'pictures' / contender.name
    command = ('tools/visualize.py', contender.config, str(options.checkpoint(contender)))
    command += ('--data-root', str(options.world), '--out', str(folder), '--samples', '2')
    command += ('--kinds', 'overview', 'heatmap', '--score-thr', '0.25')
    return Stage(
        f'pictures_{contender.name}',
        f'Draw what the {contender.title} sees',
        command,
        (folder,),
        after=(contender.name,),
        folder=folder,
        minutes=0.3,
    )


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
    latency = json.loads((options.out / 'cost' / 'latency.json').read_text())['models']
    outcomes = []
    for contender, timing in zip(CONTENDERS, latency, strict=True):
        twin = 'teacher' if contender.name == 'teacher' else 'student'
        cost = json.loads((options.out / 'cost' / f'{twin}.json').read_text())
        metrics = json.loads(options.metrics(contender).read_text())
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
        'A pint-sized BEVFormer teaches a smaller one on a synthetic world. The figures show that everything '
        'works together; they say nothing about nuScenes.',
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
    _add_record(report, options, runner)
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
    detection = {title: (log.epochs, _detection_loss(log.values)) for title, log in logs.items()}
    charts['Detection loss of the last decoder layer.'] = draw_curves(detection, 'detection loss')
    student, distilled = logs['student alone'], logs['student distilled']
    terms = [name for name in distilled.values if name.startswith('loss') and name not in student.values]
    if terms:
        drawn = {name: (distilled.epochs, distilled.values[name]) for name in terms}
        charts['Distillation terms.'] = draw_curves(drawn, 'distillation loss', log_scale=True)
    report.charts(charts)


def _detection_loss(values: dict) -> object:
    """Classification and regression of the last layer, (n,)."""
    return values['loss_cls'] + values['loss_bbox']


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
    for contender in CONTENDERS:
        for picture in sorted((options.out / 'pictures' / contender.name).glob('*_heatmap.jpg'))[:1]:
            region = (
                'the region that is distilled' if contender.name == 'teacher' else 'the same on its own grid'
            )
            report.picture(picture, f'BEV feature of the {contender.title}; contours: {region}')


def _add_record(report: Report, options: DemoOptions, runner: StageRunner) -> None:
    """How it was made, and on what."""
    stamps = [(stage, runner.read_stamp(stage.name)) for stage in runner.stages]
    report.heading('How this was made')
    report.commands([stage.shown for stage, _ in stamps])
    times = [[stage.title, clock(stamp['seconds'])] for stage, stamp in stamps]
    report.table(['stage', 'time'], [*times, ['total', clock(sum(stamp['seconds'] for _, stamp in stamps))]])
    report.heading('On what')
    facts = {'machine': machine(), **{f'{name} version': version for name, version in versions().items()}}
    configs = ', '.join(contender.config for contender in CONTENDERS)
    report.facts(
        {
            **facts,
            'configs': configs,
            'world': f'{options.scenes} scenes of {options.frames} frames, seed {options.seed}, {options.size}',
        }
    )


def machine() -> str:
    """Processor, usable cores, memory and GPUs in a few words."""
    import torch

    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.is_file() else []
    model = next(
        (line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')), platform.machine()
    )
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    words = [model, f'{len(os.sched_getaffinity(0))} cores', f'{memory:.0f} GiB', platform.platform()]
    return ', '.join(words + gpus)


def run_demo(options: DemoOptions, console: Console | None = None) -> Path:
    """Run what is not finished, print the table, and write the report; returns its path."""
    console = console or Console()
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
    default = DemoOptions()
    parser = argparse.ArgumentParser(
        description='Make a synthetic world, train a teacher and a student twice (alone and distilled), evaluate all '
        'three and write a report. Can be interrupted and run again.'
    )
    parser.add_argument('--out', type=Path, default=default.out, help='where everything goes')
    parser.add_argument('--scenes', type=int, default=default.scenes, help='scenes of the world')
    parser.add_argument('--seed', type=int, default=default.seed, help='of the world and of training')
    parser.add_argument('--size', default=default.size, help='WIDTHxHEIGHT of the images of the world')
    parser.add_argument('--frames', type=int, default=default.frames, help='keyframes per scene')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='override settings of all trainings'
    )
    cli.run(_demo_from, parser.parse_args(argv))


def _demo_from(arguments: argparse.Namespace) -> None:
    """Run as parsed arguments say; an interruption is no error."""
    options = DemoOptions(**{**vars(arguments), 'cfg_options': tuple(arguments.cfg_options)})
    try:
        run_demo(options)
    except KeyboardInterrupt:
        raise SystemExit('\ninterrupted; run again to continue') from None

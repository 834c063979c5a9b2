"""Every figure of the documentation, as Markdown made of ``benchmarks/*.json``."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).resolve().parents[2] / 'benchmarks'
BLOCKS: dict[str, Callable[[], str]] = {}
"""What a page may ask for by name, between ``<!-- written: NAME -->`` and ``<!-- end -->``."""

Record = dict[str, Any]


def block(name: str) -> Callable[[Callable[[], str]], Callable[[], str]]:
    """Offer a function's Markdown under a name."""

    def keep(function: Callable[[], str]) -> Callable[[], str]:
        BLOCKS[name] = function
        return function

    return keep


def record(name: str) -> Record:
    """Contents of ``benchmarks/NAME.json``."""
    return json.loads((BENCHMARKS / f'{name}.json').read_text())


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table.

    Example:
        >>> print(table(['model', 'NDS'], [['teacher', '18.39']]))
        | model | NDS |
        |---|---|
        | teacher | 18.39 |
    """
    head, *body = ['| ' + ' | '.join(line) + ' |' for line in (columns, *rows)]
    return '\n'.join([head, '|' + '---|' * len(columns), *body])


def origin(name: str) -> str:
    """What a record was measured on and with, and where it lies."""
    content = record(name)
    machine = content['machine']
    day = f' on {content["measured"]}' if 'measured' in content else ''
    threads = f', {machine["threads"]} thread{"s" * (machine["threads"] > 1)}' if 'threads' in machine else ''
    command = f': `{machine["command"]}`' if 'command' in machine else ''
    return (
        f'Measured{day} on an {machine["device"].partition(",")[0]}{threads}, torch '
        f'{machine["torch"].partition("+")[0]}, Python {machine["python"]}{command} (`benchmarks/{name}.json`).'
    )


# -- the demo and the set-up -------------------------------------------------------------------------------------


@block('demo')
def demo() -> str:
    """The table that ``make demo`` ends with."""
    errors = ('mATE', 'mASE', 'mAOE', 'mAVE', 'mAAE')
    rows = [
        [
            row['model'],
            *(f'{row[key]:.2f}' for key in ('NDS', 'mAP')),
            *(f'{row[key]:.3f}' for key in errors),
            f'{row["parameters_m"]:.2f} M',
            f'{row["gflops"]:.2f}',
            f'{row["ms_per_frame"]:.1f}',
        ]
        for row in record('demo_cpu')['models']
    ]
    return table(['model', 'NDS', 'mAP', *errors, 'params', 'GFLOPs', 'ms/frame'], rows)


@block('demo, short')
def demo_short() -> str:
    """The README's share of that table."""
    rows = [
        [row['model'], *(f'{row[key]:.2f}' for key in ('NDS', 'mAP', 'gflops')), f'{row["ms_per_frame"]:.1f}']
        for row in record('demo_cpu')['models']
    ]
    return table(['model', 'NDS', 'mAP', 'GFLOPs', 'ms/frame'], rows)


@block('demo, how')
def demo_how() -> str:
    """How long the demo takes, and on what."""
    content = record('demo_cpu')
    world = content['world']
    return (
        f'`make demo` takes about {content["cpu_minutes"]} minutes of CPU time after set-up, two cores together. '
        f'{world["training_scenes"]} training scenes and {world["validation_scenes"]} validation scenes, seed '
        f'{world["seed"]}. {origin("demo_cpu")}'
    )


@block('set-up time')
def set_up_time() -> str:
    """What set-up costs."""
    content = record('setup_cpu')
    return (
        f'From nothing it took {content["from_nothing"]} minutes on two cores that were busy with other work, most '
        f'of it for compiling mmcv-full ({content["compiling_mmcv_full_when_quiet"]} on the same cores when quiet), '
        f'and about {content["disk_while_it_works_gib"]} GiB of disk while it works (`.venv` keeps '
        f'{content["venv_gib"]} GiB, nearly all of it torch and its CUDA libraries). Compiling for CUDA takes about '
        f'{content["cuda_compile_minutes_per_architecture"]} minutes per GPU architecture on two cores and scales '
        f'with the cores (`MAX_JOBS` limits them). {origin("setup_cpu")}'
    )


# -- what distillation gains -------------------------------------------------------------------------------------


def gain_rows(pair: Record, headline: str, scale: float) -> list[list[str]]:
    """Rows of a comparison over seeds: the score, its spread, the gain over the student alone."""
    teachers = {_as_teacher(pair['teacher']['title']): pair['teacher']['metrics'], **_other_teachers(pair)}
    rows = [[name, f'{scale * metrics[headline]:.2f}', '', '', ''] for name, metrics in teachers.items()]
    for row in pair['rows'].values():
        spread, gain, beyond = row['spreads'][headline], row['gain'], row['beyond_head']
        rows.append(
            [
                row['title'],
                f'{spread["mean"]:.2f} ± {spread["deviation"]:.2f}',
                _with_interval(gain) if gain else '',
                _with_interval(beyond) if beyond else '',
                f'{spread["low"]:.2f} to {spread["high"]:.2f}',
            ]
        )
    return rows


def _other_teachers(pair: Record) -> dict[str, Record]:
    """Metrics of the teachers after the first, by what people call them."""
    from projects.mmdet3d_plugin.studies.gain.families import FAMILIES

    titles = {
        row.name: row.title for family in FAMILIES.values() for one in family.pairs for row in one.others
    }
    return {_as_teacher(titles[name]): metrics for name, metrics in pair.get('other_teachers', {}).items()}


def _as_teacher(title: str) -> str:
    """A title, with what a model's name does not say."""
    return title if 'teacher' in title or title[0].islower() else f'{title} teacher'


def _with_interval(gain: Record) -> str:
    """A mean and its 95 % interval over seeds, which one seed does not give."""
    if gain['half_width'] is None:
        return f'{gain["mean"]:+.2f}'
    low, high = gain['mean'] - gain['half_width'], gain['mean'] + gain['half_width']
    return f'{gain["mean"]:+.2f} ({low:+.2f} to {high:+.2f})'


@block('camera gain')
def camera_gain() -> str:
    """What the camera recipes gain over seeds."""
    return _gain_table('kd_gain_camera_cpu', ('mAP',))


@block('camera gain, how')
def camera_gain_how() -> str:
    """What that comparison ran, and what a student takes."""
    return _how_gained('kd_gain_camera_cpu')


NEAR_TEACHERS = ('kd_gain_near_teacher1_cpu', 'kd_gain_near_cpu', 'kd_gain_near_teacher4_cpu')
"""The same comparison under teachers of one, two and four epochs."""


def near_records() -> list[Record]:
    """The comparisons of :data:`NEAR_TEACHERS`."""
    return [record(name) for name in NEAR_TEACHERS]


@block('near teachers')
def near_teachers() -> str:
    """What rows gain beyond the inherited head under teachers of several strengths, and what focus and gate are of it."""
    records, names = near_records(), ('fd3d', 'fd3d_unfocused', 'fd3d_gate')
    titles = [records[0]['pairs']['teacher']['rows'][name]['title'] for name in names]
    columns = [
        "teacher's epochs",
        'its NDS',
        'inherited head only',
        *titles,
        'due to focus',
        'due to the gate',
    ]
    return table(columns, [_near_teacher(content, names) for content in records])


def _near_teacher(content: Record, names: Sequence[str]) -> list[str]:
    """The row of one teacher: its score, its head's, what each recipe teaches beyond it, and what is due to the parts."""
    pair = content['pairs']['teacher']
    rows = pair['rows']
    gains = [rows[name]['beyond_head'] for name in names]
    leads = [_lead(rows, 'fd3d', 'fd3d_unfocused'), _lead(rows, 'fd3d_gate', 'fd3d')]
    return [
        str(content['teacher_epochs']),
        f'{100 * pair["teacher"]["metrics"]["NDS"]:.2f}',
        f'{rows["inherit"]["spreads"]["NDS"]["mean"]:.2f}',
        *map(_with_interval, [*gains, *leads]),
    ]


def _lead(rows: Record, one: str, other: str) -> Record:
    """What one row has more than another, paired by seed; as a record has it."""
    # seconds, which --help should not wait for
    from projects.mmdet3d_plugin.studies.gain.spread import paired_gain

    base, lead = (rows[name]['beyond_head']['differences'] for name in (other, one))
    return asdict(paired_gain(base, lead))


@block('near teachers, how')
def near_teachers_how() -> str:
    """Where those figures are from."""
    return ' '.join(origin(name) for name in NEAR_TEACHERS)


def _gain_table(record_name: str, shown: Sequence[str]) -> str:
    """A comparison over seeds by its family's first metric, with the means of the metrics whose keys are ``shown``."""
    # seconds, which --help should not wait for
    from projects.mmdet3d_plugin.studies.gain.families import FAMILIES

    content = record(record_name)
    family = FAMILIES[content['family']]
    known = {metric.key: metric for metric in family.metrics}
    headline, metrics = family.headline, [known[key] for key in shown]
    rows = []
    for pair in content['pairs'].values():
        teachers = (pair['teacher']['metrics'], *_other_teachers(pair).values())
        means = [[metric.scale * teacher[metric.key] for metric in metrics] for teacher in teachers]
        taught = [row['spreads'] for row in pair['rows'].values()]
        means += [[spreads[metric.key]['mean'] for metric in metrics] for spreads in taught]
        for row, more in zip(gain_rows(pair, headline.key, headline.scale), means, strict=True):
            cells = [metric.format(mean) for metric, mean in zip(metrics, more, strict=True)]
            rows.append([*row[:2], *cells, *row[2:]])
    columns = ['row', headline.title, *(metric.title for metric in metrics), *_gain_columns(headline.title)]
    kept = [index for index in range(len(columns)) if any(row[index] for row in rows)]
    return table([columns[index] for index in kept], [[row[index] for index in kept] for row in rows])


def _gain_columns(title: str) -> tuple[str, str, str]:
    """What :func:`gain_rows` tells after the score; without an inherited head the second of them stays empty."""
    return (
        f'{title} over the student alone, 95 % interval',
        'beyond the inherited head',
        f'range of {title}',
    )


def _how_gained(name: str) -> str:
    """What a comparison ran, and what a training of each row takes."""
    content = record(name)
    rows = [row for pair in content['pairs'].values() for row in pair['rows'].values()]
    minutes = ', '.join(f'{row["title"]} {_minutes(row):.0f}' for row in rows)
    return (
        f'World: {content["world"]}; seeds {_listed(content["seeds"])}; teacher {content["teacher_epochs"]} epochs, '
        f'students {content["epochs"]}. CPU minutes of one training: {minutes}. {origin(name)}'
    )


def _gain_and_goals(name: str) -> str:
    """What a comparison ran, and which goals it meets."""
    goals = [goal for pair in record(name)['pairs'].values() for goal in pair['goals']]
    met, missed = (
        '; '.join(goal['text'] for goal in goals if goal['met'] is which) for which in (True, False)
    )
    return f'{_how_gained(name)} Goals met: {met or "none"}. Goals missed: {missed or "none"}.'


GAINS = {
    'near': ('mAP', 'mATE', 'mAOE', 'mAVE'),
    'cross': ('mAP', 'mATE'),
    'detr3d': ('mAP', 'mATE', 'mASE'),
    'bevdepth': ('mAP', 'mATE', 'mASE', 'mAVE'),
    'bevdepth_features': ('mAP', 'mATE', 'mASE', 'mAVE'),
    'mmdet2d': ('mAP_50', 'mAP_75'),
    **dict.fromkeys(
        ('self', 'cross_stage', 'sparse'),
        tuple(f'AP_3d_R40_moderate/{name}' for name in ('Car', 'Pedestrian', 'Cyclist')),
    ),
}
"""Records of ``kd_gain``, and what their tables show beside the first metric."""

for _name, _metrics in GAINS.items():
    block(f'{_name} gain')(partial(_gain_table, f'kd_gain_{_name}_cpu', _metrics))
    block(f'{_name} gain, how')(partial(_gain_and_goals, f'kd_gain_{_name}_cpu'))


@block('lidar gain')
def lidar_gain() -> str:
    """What the LiDAR recipes gain over seeds."""
    return _gain_table('kd_gain_lidar_cpu', ())


@block('lidar gain, how')
def lidar_gain_how() -> str:
    """What that comparison ran."""
    content, wall = record('kd_gain_lidar_cpu'), record('observations')['kd_gain_lidar_wall']
    goals = [
        f'{row["title"]} {row["gain"]["mean"]:+.1f}, goal {row["goal"]:+.1f}'
        for pair in content['pairs'].values()
        for row in pair['rows'].values()
        if row['goal']
    ]
    return (
        f'World: {content["world"]}; seeds {_listed(content["seeds"])}; teachers {content["teacher_epochs"]} epochs, '
        f'students {content["epochs"]}; {wall["cpu_minutes"]} CPU minutes, {wall["minutes"]} minutes beside other '
        f'work on two cores. Against the goals: {"; ".join(goals)}. {origin("kd_gain_lidar_cpu")}'
    )


def _minutes(row: Record) -> float:
    costs = [run['cost']['cpu_seconds'] / 60 for run in row['runs'].values()]
    return sum(costs) / len(costs)


def _listed(items: Iterable[object]) -> str:
    return ', '.join(map(str, items))


# -- what others published, and what models cost -----------------------------------------------------------------


@block('published')
def published() -> str:
    """NDS and mAP on nuScenes val as their authors give them."""
    rows = []
    for row in record('published')['nuscenes_val']:
        score = f'{row["NDS"]:.2f} / {row["mAP"]:.2f}'
        if 'from' in row:
            score += f' (from {row["from"]["NDS"]:.2f} / {row["from"]["mAP"]:.2f})'
        score += f' ({row["remark"]})' if 'remark' in row else ''
        role = '' if row['role'] == 'recipe' else f' ({row["role"]})'
        student = row['student'] or '-'
        student = f'`{student}`' if student.endswith('.py') else student
        rows.append([f'`{row["config"]}`{role}', student, score, row['source']])
    return table(['recipe', 'student', 'published NDS / mAP', 'source'], rows)


@block('self-distillation log')
def self_distillation_log() -> str:
    """What the original log of voxel self-distillation reports, beside the recipes that mean the same."""
    names = ('Car', 'Pedestrian', 'Cyclist')
    rows = [
        [
            f'{row["run"]}, {row["output"]}',
            f'`{row["recipe"]}`' if row['recipe'] else '-',
            *(' / '.join(f'{value:.2f}' for value in row[name]) for name in names),
        ]
        for row in record('published')['self_distillation_kitti_val']
    ]
    return table(['run, output', 'recipe', *names], rows)


@block('models')
def models() -> str:
    """Size and cost of the camera detectors."""
    others = record('published')['gflops']
    rows = [
        [
            f'`{row["config"]}`',
            row['images'],
            row['bev'] or '',
            f'{row["parameters"] / 1e6:.2f} M',
            f'{row["published_rule"] / 1e9:.1f}',
            f'{others[row["config"]]:.2f}' if row['config'] in others else '',
            f'{row["computed"] / 1e9:.1f}',
        ]
        for row in record('camera_costs')['rows']
    ]
    columns = ['config', 'images', 'BEV', 'parameters', 'GFLOPs, published rule', 'published', 'all counted']
    return table(columns, rows)


@block('lidar costs')
def lidar_costs() -> str:
    """Parameters and GFLOPs of the LiDAR students beside their papers'."""
    rows = []
    for row in record('lidar_costs')['rows']:
        paper = row['paper'] or {}
        rule = 'sparsekd_rule_gflops' if 'centerpoint' in row['config'] else 'mmcv_rule_gflops'
        gflops = row[rule]
        rows.append(
            [
                f'`{row["config"]}`',
                f'{row["parameters_m"]:.2f} M',
                f'{paper["parameters_m"]:.1f} M' if paper.get('parameters_m') else '',
                f'{gflops:.1f}' if gflops else '',
                f'{paper["gflops"]:.1f}' if paper.get('gflops') else '',
                f'{100 * (gflops / paper["gflops"] - 1):+.0f} %' if gflops and paper.get('gflops') else '',
            ]
        )
    return table(['config', 'parameters', "paper's", 'GFLOPs', "paper's", 'difference'], rows)


# -- what a step and its parts take ------------------------------------------------------------------------------


@block('distillation step')
def distillation_step() -> str:
    """A whole step at base -> small shapes beside its teacher and student alone."""
    content = record('distill_step_cpu')
    seconds = {name: value / 1e3 for name, value in content['ms'].items()}
    terms = _terms_seconds(content)
    old = _terms_seconds(record('distill_step_background_cpu'))
    both = seconds['teacher forward'] + seconds['student step']
    return (
        f'At base -> small shapes, one frame, a whole step of FD3D takes {seconds["distillation step"]:.0f} s beside '
        f"{seconds['teacher forward']:.0f} s of the teacher's forward pass and {seconds['student step']:.0f} s of the "
        f"student's step, peak {content['peak_mb']['distillation step'] / 1e3:.1f} GB against the student's "
        f'{content["peak_mb"]["student step"] / 1e3:.1f}: {content["ratio"]:.2f} of the two, goal {content["goal"]:.2f}. '
        f'Rounds scatter by a few percent; measured by themselves the terms take {terms:.1f} s, '
        f'{100 * terms / both:.1f} % of the two. With `background=0.3` on the image features they took {old:.1f} s, '
        'before large CPU tensors kept their pages (`benchmarks/distill_step_background_cpu.json`). '
        f'{origin("distill_step_cpu")}'
    )


@block('cross closeness')
def cross_closeness() -> str:
    """How close students come to the BEV features of a camera and of a LiDAR teacher."""
    content = record('closeness_cross_cpu')
    rows = [
        [row['title'], f'{row["inside"]:.2f}', f'{row["outside"]:.2f}'] for row in content['rows'].values()
    ]
    return table(['student', 'gap where objects are', 'elsewhere'], rows)


@block('cross closeness, how')
def cross_closeness_how() -> str:
    """On what, and by which command."""
    return origin('closeness_cross_cpu')


@block('LiDAR distillation step')
def lidar_distillation_step() -> str:
    """A whole step of a LiDAR recipe at full size beside its teacher and student alone."""
    content = record('distill_step_lidar_cpu')
    seconds = {name: value / 1e3 for name, value in content['ms'].items()}
    both = seconds['teacher forward'] + seconds['student step']
    return (
        f'A whole step of `{Path(content["recipe"]).name}`, one frame, takes {seconds["distillation step"]:.1f} s beside '
        f"{seconds['teacher forward']:.1f} s of the teacher's forward pass and {seconds['student step']:.1f} s of the "
        f"student's step: {content['ratio']:.2f} of the two; rounds scatter by a few percent. Its term by itself takes "
        f'{_terms_seconds(content):.2f} s, {100 * _terms_seconds(content) / both:.1f} % of them. '
        f'{origin("distill_step_lidar_cpu")}'
    )


def _terms_seconds(content: Record) -> float:
    return sum(term['forward_ms'] + term['backward_ms'] for term in content['terms'].values()) / 1e3


@block('losses')
def losses() -> str:
    """Our distillation losses beside plain torch."""
    content = record('kd_losses_cpu')
    rows = [
        [
            f'`{name}`',
            f'{row["plain_ms"]:.0f}',
            f'{row["ours_ms"]:.1f}',
            f'{row["speedup"]:.1f}x',
            f'{row["plain_mb"]:.0f}',
            f'{row["ours_mb"]:.2f}',
        ]
        for name, row in content['losses'].items()
    ]
    shape = ' x '.join(map(str, content['shape']))
    columns = [f'loss on {shape}', 'torch, ms', 'ours, ms', 'faster', 'torch, MB', 'ours, MB']
    return table(columns, rows)


@block('attention')
def attention() -> str:
    """Deformable attention, forward and backward, beside plain torch, with and without AVX-512."""
    narrow = [row['ratio']['torch'] for row in _attention_calls('msda_cpu_avx2')]
    busy = record('msda_cpu')['machine']['load'] > 1.5
    rows = [
        [
            row['model'],
            row['call'],
            row['mode'],
            f'{row["ms"]["torch"]:.0f}',
            f'{row["ms"]["ours"]:.0f}',
            f'{row["ratio"]["torch"]:.1f}x',
            f'{row["floor"]:.1f}',
        ]
        for row in _attention_calls('msda_cpu')
    ]
    columns = ['model', 'call', 'mode', 'torch, ms', 'ours, ms', 'faster', 'multiple of a plain copy']
    return (
        f'{table(columns, rows)}\n\n{origin("msda_cpu")}{" Other work ran beside it." if busy else ""} On a processor '
        f'without AVX-512, beside other work, the same calls are {min(narrow):.1f} to {max(narrow):.1f} times as fast as '
        'plain torch (`benchmarks/msda_cpu_avx2.json`).\n\nTwo compiled research prototypes of the same kernels, written '
        f'for AVX-512, the faster of which is compared call by call, take {_beside_prototypes("msda_prototype_cpu")}; '
        f'on a processor without AVX-512 {_beside_prototypes("msda_prototype_cpu_avx2")}.'
    )


def _beside_prototypes(name: str) -> str:
    """Attention beside compiled prototypes of the same kernels, and on how many calls its goal is met."""
    content = record(name)
    goal, parts, met = content['goal'], [], 0
    ratios = {
        'forward': [call['ratio']['fwd'] for call in content['calls']],
        'forward and backward': [call['ratio']['both'] for call in content['calls']],
    }
    for mode, of_mode in ratios.items():
        parts.append(f'{min(of_mode):.2f} to {max(of_mode):.2f} ({mode})')
        met += sum(ratio >= goal for ratio in of_mode)
    return (
        f'{" and ".join(parts)} of our time, and the goal of {goal} is met on {met} of {2 * len(content["calls"])} '
        f'(`benchmarks/{name}.json`)'
    )


def _attention_calls(name: str) -> list[Record]:
    """Rows of the forms that hosts call."""
    return [row for row in record(name)['calls'] if row['mode'].startswith('fused')]


@block('voxel query')
def voxel_query() -> str:
    """Voxel R-CNN's query at KITTI's full size, three ways."""
    report = record('voxel_query_cpu')
    rows = [
        [
            f'`{row["stage"]}`',
            f'{row["voxels"]:,}',
            *(f'{row["ms"][way]:,.1f} ms' for way in ('ours', 'torch', 'naive')),
            *(f'{row["peak_mb"][way]:,.0f} MB' for way in ('ours', 'torch', 'naive')),
        ]
        for row in report['rows']
    ]
    columns = ['stage', 'voxels', 'kernel', 'plain torch', 'naive', 'kernel', 'plain torch', 'naive']
    points = report['rows'][0]['points']
    note = "the kernel's one bit per cell is not counted in"
    origins = origin('voxel_query_cpu')
    return f'{table(columns, rows)}\n\nCPU time and peak memory for {points:,} points; {note}. {origins}'


@block('point sets')
def point_sets() -> str:
    """IA-SSD's sampling and grouping at KITTI's full size, two ways."""
    report = record('point_sets_cpu')
    rows = [
        [
            row['call'],
            f'{row["points"]:,}',
            f'{row["asked"]:,}',
            *(f'{row["ms"][way]:,.1f} ms' for way in ('ours', 'torch')),
        ]
        for row in report['rows']
    ]
    columns = ['call', 'points', 'chosen, or asked about', 'kernel', 'plain torch']
    return f'{table(columns, rows)}\n\nCPU time of one frame. {origin("point_sets_cpu")}'


@block('lift-splat')
def lift_splat() -> str:
    """BEVDepth's pooling beside the outer product and the scatter."""
    rows = [
        [
            images,
            f'{row["points"]:,}',
            'forward' if mode == 'forward' else 'forward and backward',
            *(f'{row["ms"][f"{way} whole {mode}"]:,.0f}' for way in ('naive', 'ours')),
            f'{row["ratio"][f"with geometry {mode}"]:.1f}x',
            *(f'{row["temporary_mb"][way]:,.1f}' if mode == 'forward' else '' for way in ('naive', 'ours')),
        ]
        for images, row in record('lift_splat_cpu')['shapes'].items()
        for mode in ('forward', 'both')
    ]
    columns = [
        'images',
        'points',
        'of pooling',
        "original's way, ms",
        'ours, ms',
        'faster',
        "original's memory, MB",
        'ours, MB',
    ]
    busy = record('lift_splat_cpu')['machine']['load'] > 2
    note = 'CPU time of one frame of six cameras, geometry included' + ', beside other work' * busy
    note += '; memory is what a call takes beyond its results'
    return f'{table(columns, rows)}\n\n{note}. {origin("lift_splat_cpu")}'


@block('look-ups')
def look_ups() -> str:
    """DETR3D's look-ups in image features, per decoder layer, beside the original's way."""
    rows = [
        [
            row['model'],
            'forward' if row['mode'] == 'forward' else 'forward and backward',
            *(f'{row["ms_per_layer"][name]:.1f}' for name in ('original', 'torch', 'ours')),
            f'{row["speed"]:.0f}x',
            *(f'{row["temporary_mb"][name]:.1f}' for name in ('original', 'ours')),
            f'{row["memory"]:.0f}x',
        ]
        for row in record('gather_maps_cpu')['rows']
    ]
    columns = [
        'images', 'of a layer', 'original, ms', 'plain torch, ms', 'ours, ms', 'faster', "original's memory, MB", 'ours, MB', 'less',
    ]  # fmt: skip
    return table(columns, rows)


@block('transformer')
def transformer() -> str:
    """BEVFormer's whole transformer beside plain torch."""
    rows = [
        [
            row['model'],
            f'{row["ms"]["torch"] / 1e3:.1f}',
            f'{row["ms"]["ours"] / 1e3:.1f}',
            f'{row["ratio"]:.1f}x',
        ]
        for row in record('transformer_cpu')['models']
    ]
    return table(['model', 'torch, s', 'ours, s', 'faster'], rows)


@block('linear')
def linear() -> str:
    """Linear layers beside torch's."""
    rows = [
        [
            row['layer'],
            row['mode'],
            f'{row["ms"]["torch"]:.0f}',
            f'{row["ms"]["ours"]:.0f}',
            f'{row["ratio"]:.2f}x',
        ]
        for row in record('linear_cpu')['layers']
    ]
    return table(['layer', 'mode', 'torch, ms', 'ours, ms', 'faster'], rows)


@block('kitti evaluation')
def kitti_evaluation() -> str:
    """How long KITTI's evaluation takes."""
    content = record('kitti_eval_cpu')
    return (
        f"KITTI's {content['frames']:,} validation frames take {content['ours']['first_s']:.1f} s. "
        f'{origin("kitti_eval_cpu")}'
    )


@block('nuscenes evaluation')
def nuscenes_evaluation() -> str:
    """What nuScenes' evaluation takes, ours and the devkit's."""
    content = record('nuscenes_eval_cpu')
    titles = {'first': 'ours, from the tables', 'cached': 'ours, from the cache', 'devkit': 'the devkit'}
    rows = [
        [title, f'{content[name]["cpu_s"]:.0f}', f'{content[name]["peak_mb"] / 1e3:.1f}']
        for name, title in titles.items()
    ]
    return (
        f'{content["samples"]:,} samples with {content["predictions"]} predictions each, from results to metrics and '
        f'submission file:\n\n{table(["evaluator", "CPU seconds", "GB beyond the predictions"], rows)}\n\n'
        f'The {content["compared"]} figures differ by at most {content["difference"]:.0e}. {origin("nuscenes_eval_cpu")}'
    )


@block('loaders')
def loaders() -> str:
    """What one training sample costs to load, ours beside others."""
    content = record('loader_cpu')
    titles = {
        'ours': 'ours',
        'mmdet3d': "mmdet3d's loading, mmdet's transforms",
        'bevformer': "BEVFormer's transforms",
    }
    rows = [
        [title, *(f'{case["ms"][name]:.0f} ({case["ratio"].get(name, 1):.1f}x)' for case in content['cases'])]
        for name, title in titles.items()
    ]
    columns = [
        'loader',
        *('with colour jitter' if case['jitter'] else 'without' for case in content['cases']),
    ]
    return (
        'Six images of 1600x900 for a teacher and, at half their size, for a student, CPU milliseconds per sample and '
        f'how many times as long:\n\n{table(columns, rows)}\n\n{origin("loader_cpu")}'
    )


# -- exported detectors ------------------------------------------------------------------------------------------


@block('deployed accuracy')
def deployed_accuracy() -> str:
    """What trained detectors find as graphs, and with convolutions in eight bits."""
    content = record('deploy_accuracy_cpu')
    rows = [
        [
            f'`{row["model"]}`',
            name,
            *(f'{100 * found[key]:.2f}' for key in ('NDS', 'mAP')),
            f'{row["megabytes"][name]:.1f}',
        ]
        for row in content['accuracy']
        for name, found in row['metrics'].items()
    ]
    frames = content['accuracy'][0]['frames']
    return (
        f'{table(["detector", "run by", "NDS", "mAP", "MB"], rows)}\n\nAs evaluated by `tools/test.py`; int8 was calibrated '
        f'on {frames} frames of the training split. {origin("deploy_accuracy_cpu")}'
    )


@block('deployed latency')
def deployed_latency() -> str:
    """Milliseconds per frame of exported detectors."""
    content = record('deploy_cpu')
    ways = ('torch', 'torch.compile', 'onnxruntime', 'int8')
    ways = tuple(way for way in ways if any(way in row['ms'] for row in content['latency']))
    rows = [
        [f'`{row["model"]}`', *(f'{row["ms"][way]:.0f}' if way in row['ms'] else 'fails' for way in ways)]
        for row in content['latency']
    ]
    return f'{table(["detector", *(f"{way}, ms" for way in ways)], rows)}\n\nMedians of one frame. {origin("deploy_cpu")}'


# -- single observations -----------------------------------------------------------------------------------------


@block('one KITTI frame')
def one_kitti_frame() -> str:
    """What overfitting one real frame comes to."""
    content = record('observations')['kitti_one_frame']
    return f'{content["what"]}: {content["AP_3d_R40_moderate"]} %.'


@block('sparse banks')
def sparse_banks() -> str:
    """How good the banks are that two rounds of mining left in the comparison."""
    return _banks('sparse_banks_cpu')


@block('labeller banks')
def labeller_banks() -> str:
    """How good those of a labeller are, how good it is itself, and what mining takes."""
    content = record('labeller_banks_cpu')
    rounds = zip(*content['labellers'].values(), strict=True)
    on_labels, on_bank = (_listed(f'{100 * score:.1f}' for score in scores) for scores in rounds)
    shares = [share for seed in content['mining_share'].values() for share in seed]
    return (
        f'{_banks("labeller_banks_cpu")} The labellers themselves reach {on_labels} on the few labels and {on_bank} on their '
        f'first banks (3D mAP R40 moderate). Mining took {min(shares):.2f} to {max(shares):.2f} of the CPU time of a training '
        'of the detector that learns from it.'
    )


@block('labeller trial')
def labeller_trial() -> str:
    """What was seen before the comparison."""
    content = record('labeller_trial_cpu')
    rows = ', '.join(f'{title} {100 * score:.1f}' for title, score in content['mAP_3d_R40_moderate'].items())
    return f'{content["what"]}: {rows} ({content["machine"]}, `{content["command"]}`).'


def _banks(name: str) -> str:
    """Banks of a comparison, seed by seed."""
    content = record(name)

    def shown(values: Sequence[float | None]) -> str:
        return ', '.join('none mined' if value is None else f'{value:.2f}' for value in values)

    rows = []
    for kind in ('Car', 'Pedestrian', 'Cyclist'):
        for banks in zip(*content['seeds'].values(), strict=True):
            found = [bank['classes'][kind] for bank in banks]
            figures = (shown([one[key][0] for one in found]) for key in ('precision', 'recall'))
            mined = ', '.join(str(one['accepted']) for one in found)
            rows.append([f'{kind}, round {banks[0]["iteration"]}', mined, *figures])
    columns = ['class and round', 'mined', 'precision @0.5', 'recall @0.5']
    note = f'Seeds {_listed(content["seeds"])}, by `{content["command"]}` (`benchmarks/{name}.json`).'
    return f'{table(columns, rows)}\n\n{note}'


@block('bank quality')
def bank_quality() -> str:
    """What a first bank is worth."""
    content = record('bank_quality_cpu')
    seconds = content['cpu_seconds']
    rows = [
        [
            name,
            *(str(row[key]) for key in ('annotated', 'hidden', 'accepted')),
            *(
                '-' if share is None else f'{share:.2f}'
                for share in (row['precision'][0], row['recall'][0], row['centre'])
            ),
            str(row['poison']),
        ]
        for bank in content['banks']
        for name, row in bank['classes'].items()
    ]
    columns = ['class', 'labels', 'hidden', 'mined', 'precision @0.5', 'recall @0.5', 'centre, m', 'poison']
    return (
        f'{content["what"][0].upper()}{content["what"][1:]}.\n\n{table(columns, rows)}\n\n'
        f'Mining took {seconds["mining"] / seconds["first training"]:.2f} of the CPU time of that training. Measured on '
        f'{content["measured"]}, {content["machine"].partition(",")[0]}, by the commands in '
        '`benchmarks/bank_quality_cpu.json`.'
    )


@block('one nuScenes frame')
def one_nuscenes_frame() -> str:
    """What overfitting one real frame comes to, next to what its ground truth scores."""
    best = record('observations')['bevdepth_one_frame']['possible']
    hosts = [record('observations')[f'{host}_one_frame'] for host in ('bevdepth', 'detr3d')]
    reached = '; '.join(
        f'{content["what"]}, {content["steps"]} steps: mAP {content["mAP"]:.3f} and NDS {content["NDS"]:.3f} '
        f'(`{content["command"]} --data-root DIR`)'
        for content in hosts
    )
    return (
        "Overfitted to the real nuScenes keyframe, by the devkit's rules, where the ground truth itself scores mAP "
        f'{best["mAP"]:.3f} and NDS {best["NDS"]:.3f} as predictions, since the frame has not all classes: {reached}.'
    )


@block('adapter collapse')
def adapter_collapse() -> str:
    """What a trainable teacher adapter does."""
    content = record('observations')['adapter_collapse']
    return (
        "With the published trainable teacher adapter, PointDistiller's loss can fall by collapse: from "
        f'{content["before"]} to {content["after"]} effective dimensions in {content["steps"]} steps on one frame. '
        '`train_teacher_adapter=False` takes that away, and the scaled-down recipe uses it.'
    )

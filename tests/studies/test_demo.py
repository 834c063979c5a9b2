"""The demo's commands are ones the tools accept, and its report holds what the stages wrote."""

import io
import json
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console

from projects.mmdet3d_plugin.command_line import parsers
from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.files import write_json
from projects.mmdet3d_plugin.engine.config_check import check_test_config, check_train_config
from projects.mmdet3d_plugin.studies.demo import (
    CONTENDERS,
    DemoOptions,
    demo_stages,
    print_outcomes,
    read_outcomes,
    write_report,
)
from projects.mmdet3d_plugin.studies.stages import Stage, StageRunner
from projects.mmdet3d_plugin.studies.training_run import ROOT

PARSERS = {
    'tools/create_synthetic.py': parsers.parse_create_synthetic,
    'tools/create_data.py': parsers.parse_create_data,
    'tools/train.py': parsers.parse_train,
    'tools/distillation.py': parsers.parse_distillation,
    'tools/test.py': parsers.parse_test,
    'tools/testStu.py': parsers.parse_test,
    'tools/analysis_tools/get_flops.py': parsers.parse_complexity,
    'tools/analysis_tools/benchmark.py': parsers.parse_latency,
    'tools/visualize.py': parsers.parse_visualize,
    'tools/visualize_distill.py': parsers.parse_visualize_distill,
}
CHECKS = {
    'tools/train.py': check_train_config,
    'tools/distillation.py': check_train_config,
    'tools/test.py': check_test_config,
    'tools/testStu.py': check_test_config,
}
METRICS = {
    'NDS': 0.4,
    'mAP': 0.3,
    'mATE': 0.5,
    'mASE': 0.2,
    'mAOE': 0.4,
    'mAVE': 0.9,
    'mAAE': 0.3,
    'AP/car': 0.6,
}


def by_name(stages: list[Stage]) -> dict[str, Stage]:
    return {stage.name: stage for stage in stages}


def accepted(script: str, argv: list[str]) -> dict:
    """Arguments as the tool itself parses them; nothing is run."""
    return vars(PARSERS[script](argv))


def test_every_command_is_one_that_its_tool_accepts() -> None:
    options = DemoOptions(scenes=7, cfg_options=('runner.max_epochs=2',))
    for stage in demo_stages(options):
        script, *argv = stage.command
        assert (ROOT / script).is_file()
        arguments = accepted(script, argv)
        if script in CHECKS:  # what the tool looks over before it builds anything
            CHECKS[script](load_config(str(ROOT / arguments['config']), arguments['cfg_options']))
        for word in argv:
            if word.startswith('projects/configs'):
                assert (ROOT / word).is_file()


def test_distilled_student_builds_on_its_teacher() -> None:
    stages = by_name(demo_stages(DemoOptions(cfg_options=('runner.max_epochs=2',))))
    assert 'teacher' in stages['distilled'].after
    assert 'teacher' not in stages['student'].after
    script, *argv = stages['distilled'].command
    parsed = accepted(script, argv)
    checkpoint = parsed['cfg_options']['distiller.teacher.checkpoint']
    assert checkpoint == str(stages['teacher'].outputs[0]) == 'work_dirs/demo/teacher/epoch_2.pth'
    assert parsed['resume'] == 'auto'


def test_changed_config_changes_the_training_but_not_the_world() -> None:
    before, after = (
        by_name(demo_stages(DemoOptions(cfg_options=options))) for options in ((), ('optimizer.lr=0.1',))
    )
    assert before['world'] == after['world']
    assert before['student'].inputs != after['student'].inputs


def fill(folder: Path) -> tuple[DemoOptions, StageRunner]:
    """Everything that the stages would have written."""
    options = DemoOptions(out=folder, scenes=5)
    stages = demo_stages(options)
    for stage in stages:
        write_json(
            folder / 'stamps' / f'{stage.name}.json', {'key': '', 'command': stage.shown, 'seconds': 61}
        )
    cost = {'trainable': 1e6, 'parameters': 2e6, 'computed': 3e9, 'published': 4e9}
    models = []
    for i, contender in enumerate(CONTENDERS):
        write_json(options.metrics(contender), {**METRICS, 'NDS': 0.4 + i / 100})
        write_json(folder / 'cost' / f'{contender.name}.json', {'total': cost, 'parts': {'backbone': cost}})
        models.append({'median_ms': 10.0 + i})
        entry = {'mode': 'train', 'epoch': 1, 'loss': 3.0, 'loss_cls': 1.0, 'loss_bbox': 1.0}
        if contender.name == 'distilled':
            entry['loss_bev_l2'] = 0.5
        log = '\n'.join(json.dumps({**entry, 'iter': step}) for step in (1, 2))
        (folder / contender.name).mkdir()
        (folder / contender.name / 'run.log.json').write_text(log)
        for kind in ('overview', 'heatmap'):
            path = folder / 'pictures' / contender.name / f'00001_{kind}.jpg'
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))
    write_json(folder / 'cost' / 'latency.json', {'models': models})
    return options, StageRunner(folder, stages, ROOT)


def test_table_and_report_hold_the_figures(tmp_path: Path) -> None:
    options, runner = fill(tmp_path)
    outcomes = read_outcomes(options)
    console = Console(file=io.StringIO(), width=200)
    print_outcomes(outcomes, console)
    said = console.file.getvalue()
    for figure in ('40.00', '41.00', '42.00', '2.00', '3.00', '12.0', 'student distilled'):
        assert figure in said
    text = write_report(options, runner, outcomes).read_text()
    assert '+1.00' in text
    assert text.count('<svg') == 3
    assert 'loss_bev_l2' in text
    assert text.count('data:image/jpeg') == 6
    assert '$' not in runner.stages[0].shown
    assert runner.stages[0].shown in text
    assert '0:01:01' in text
    assert 'torch version' in text

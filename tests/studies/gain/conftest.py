"""A comparison of two rows whose stages seem to be finished."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from projects.mmdet3d_plugin.common.files import write_json
from projects.mmdet3d_plugin.studies.gain.choice import Choice
from projects.mmdet3d_plugin.studies.gain.families import CAMERA
from projects.mmdet3d_plugin.studies.gain.plan import GainOptions, Plan, make_plan
from projects.mmdet3d_plugin.studies.side_by_side import SideBySideRunner
from projects.mmdet3d_plugin.studies.training_run import ROOT, TrainingRun

PAIR = CAMERA.pairs[0]
HEATMAP = next(row for row in PAIR.rows if row.name == 'heatmap')
# stands for "inherited head only": the recipe that only inherits has a test of its own
HEAD = replace(HEATMAP, name='inherit', title='inherited head only', goal=None)
NDS = {
    'teacher': 30.0,
    'none_seed_0': 10.0,
    'none_seed_1': 12.0,
    'inherit_seed_0': 11.0,
    'inherit_seed_1': 13.0,
    'heatmap_seed_0': 13.0,
    'heatmap_seed_1': 17.0,
}


def options_for(out: Path, **changes: object) -> GainOptions:
    scale = replace(CAMERA.scales['cpu'], seeds=(0, 1), epochs=2)
    options = GainOptions(CAMERA, [Choice(PAIR, (PAIR.student, HEAD, HEATMAP))], scale, 5, out)
    return replace(options, **changes)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return make_plan(options_for(tmp_path))


@pytest.fixture
def runner(plan: Plan) -> SideBySideRunner:
    return SideBySideRunner(plan.options.out, plan.stages(), ROOT)


@pytest.fixture
def finished(plan: Plan, runner: SideBySideRunner) -> SideBySideRunner:
    """Everything that the stages would have written."""
    finish(plan, runner, [run.name for run in plan.pairs[0].runs])
    return runner


def finish(plan: Plan, runner: SideBySideRunner, names: list[str]) -> None:
    """Let some runs look trained, evaluated and drawn."""
    keys = runner.keys()
    for stage in runner.stages:
        if any(stage.name in (name, f'evaluate_{name}', f'pictures_{name}') for name in names):
            cpu = 60.0 if 'none' in stage.name else 90.0
            notes = {'seconds': 61.0, 'cpu_seconds': cpu, 'peak_bytes': 2**30, 'attempts': 1}
            write_json(runner.folder / 'stamps' / f'{stage.name}.json', {'key': keys[stage.name], **notes})
    for run in plan.pairs[0].runs:
        if run.name in names:
            _write_run(plan, run)


def _write_run(plan: Plan, run: TrainingRun) -> None:
    metrics = {'NDS': NDS[run.name] / 100, 'mAP': 0.1, 'mATE': 0.5}
    write_json(plan.evaluation(run), {**metrics, **dict.fromkeys(('mASE', 'mAOE', 'mAVE', 'mAAE'), 0.3)})
    entry = {'mode': 'train', 'epoch': 1, 'loss': 3.0, 'loss_cls': 1.0, 'loss_bbox': 1.0, 'time': 0.2}
    if 'heatmap' in run.name:
        entry['loss_kd_bev_l2'] = 0.5
    run.folder.mkdir(parents=True, exist_ok=True)
    run.checkpoint.touch()
    log = '\n'.join(json.dumps({**entry, 'iter': step}) for step in (1, 2))
    (run.folder / 'run.log.json').write_text(log)
    picture = plan.pictures(run) / '00001_overview.jpg'
    if not run.name.endswith('seed_1'):
        picture.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(picture), np.zeros((8, 8, 3), np.uint8))

"""The entry point of distillation, on the demo's recipe shrunken further; the distiller has tests of its own."""

import json
from pathlib import Path

import pytest
import torch
from mmcv import Config

from projects.mmdet3d_plugin.common.checkpoint import plain_state, read_checkpoint, write_checkpoint
from projects.mmdet3d_plugin.common.config import config_text, load_config
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.rng import seed_everything
from projects.mmdet3d_plugin.distill.recipe import build_training
from projects.mmdet3d_plugin.engine.distill import distill
from projects.mmdet3d_plugin.engine.test import evaluate_checkpoint
from projects.mmdet3d_plugin.engine.train import TrainOptions, make_detector
from tests.engine.toy import ONE_PROCESS, toy_config

SYNTHETIC = Path('projects/configs/synthetic')


def shrunken(name: str, data_root: Path, bev: int, image: tuple[int, int]) -> Config:
    """A config of the demo at a size for tests."""
    cfg = load_config(SYNTHETIC / name, {'data.samples_per_gpu': 2, 'log_config.interval': 1}, data_root)
    cfg.model.pts_bbox_head.update(bev_h=bev, bev_w=bev, num_query=20)
    for split in ('train', 'val', 'test'):
        for step in cfg.data[split].pipeline:
            if step['type'] == 'ImageView':
                step['size'] = image
    return cfg


@pytest.fixture
def recipe(tiny_nuscenes: Path, tmp_path: Path) -> Config:
    """The demo's recipe with a teacher of random weights."""
    teacher = shrunken('bevformer_teacher.py', tiny_nuscenes, 10, (64, 36))
    (tmp_path / 'teacher.py').write_text(config_text(teacher))
    write_checkpoint(tmp_path / 'teacher.pth', dict(state_dict=plain_state(make_detector(teacher))))
    cfg = shrunken('distill_heatmap.py', tiny_nuscenes, 5, (32, 18))
    cfg.merge_from_dict(dict(runner=dict(max_epochs=2), evaluation=dict(interval=2)))
    cfg.distiller.teacher.update(
        config=str(tmp_path / 'teacher.py'), checkpoint=str(tmp_path / 'teacher.pth')
    )
    return cfg


def test_a_recipe_is_distilled_and_its_student_needs_no_teacher(recipe: Config, tmp_path: Path) -> None:
    distill(recipe, TrainOptions(work_dir=tmp_path / 'run'), ONE_PROCESS)
    lines = [
        json.loads(line) for line in next((tmp_path / 'run').glob('*.log.json')).read_text().splitlines()
    ]
    assert {'loss_kd_pv_cwd_0', 'loss_kd_bev_l2', 'loss_cls', 'loss_bbox'} <= lines[1].keys()
    content = read_checkpoint(tmp_path / 'run/epoch_2.pth')
    assert len(content['meta']['teacher']['sha256']) == 64
    student = plain_state(make_detector(recipe))
    extra = {key.split('.')[0] for key in content['state_dict'] if key not in student}
    assert student.keys() <= content['state_dict'].keys()
    assert extra == {'distill'}
    (tmp_path / 'teacher.py').unlink()
    (tmp_path / 'teacher.pth').unlink()
    metrics = evaluate_checkpoint(recipe, tmp_path / 'run/epoch_2.pth', out_dir=tmp_path, launch=ONE_PROCESS)
    for name in ('NDS', 'mAP', 'mATE'):
        assert lines[-1][name] == pytest.approx(metrics[name], abs=1e-5)


def test_a_student_starts_from_the_weights_that_it_would_have_alone(recipe: Config) -> None:
    recipe.distiller.initialize = []
    seed_everything(7, False)
    alone = make_detector(recipe)
    drawn = torch.rand(3)
    seed_everything(7, False)
    taught = build_training(recipe)[0].student
    assert all(torch.equal(weight, alone.state_dict()[key]) for key, weight in taught.state_dict().items())
    assert torch.equal(torch.rand(3), drawn)


def test_a_resumed_distillation_equals_a_straight_one(recipe: Config, tmp_path: Path) -> None:
    whole = distill(recipe, TrainOptions(work_dir=tmp_path / 'a', validate=False), ONE_PROCESS)
    options = TrainOptions(work_dir=tmp_path / 'b', validate=False, resume=tmp_path / 'a/epoch_1.pth')
    parts = distill(recipe, options, ONE_PROCESS)
    one, other = plain_state(whole.model), plain_state(parts.model)
    assert one.keys() == other.keys()
    assert all(bool((one[key] == other[key]).all()) for key in one)


def test_a_config_without_distiller_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='has no distiller: recipes are in projects/configs/distiller'):
        distill(toy_config(tmp_path), None, ONE_PROCESS)

"""A training's stages fit together, whether it is trained here or came from elsewhere."""

from dataclasses import replace
from pathlib import Path

import pytest

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import hash_file
from projects.mmdet3d_plugin.studies.training_run import SELF_TRAIN, TRAIN, TrainingRun, cached_config

CONFIG = 'projects/configs/synthetic/bevformer_student.py'


def run_of(folder: Path, **options: object) -> TrainingRun:
    return TrainingRun('one', 'first one', CONFIG, TRAIN, folder / 'run', folder / 'world', 3, **options)


def test_training_leaves_the_checkpoint_that_others_read(tmp_path: Path) -> None:
    run = run_of(tmp_path, overrides=('runner.max_epochs=4',), after=('infos',), flags=('--device', 'cpu'))
    train, evaluate = run.train(), run.evaluate(tmp_path / 'evaluation')
    assert train.outputs == (tmp_path / 'run' / 'epoch_4.pth',)
    assert train.after == ('infos',)
    assert evaluate.after == ('one',)
    assert str(train.outputs[0]) in evaluate.command
    for stage in (train, evaluate, run.draw(tmp_path / 'pictures', 1, ('overview',))):
        assert ' --device cpu' in stage.shown
    assert '--seed 3' in train.shown


def test_the_log_of_a_self_training_is_that_of_its_last_training(tmp_path: Path) -> None:
    run = replace(run_of(tmp_path), tool=SELF_TRAIN)
    assert run.logs == tmp_path / 'run'  # nothing is there yet
    for number in (1, 2):
        (tmp_path / 'run/runs' / f'train_{number:02d}').mkdir(parents=True)
    assert run.logs == tmp_path / 'run/runs/train_02'
    assert run_of(tmp_path).logs == tmp_path / 'run'


def test_changed_setting_changes_the_training(tmp_path: Path) -> None:
    one, other = (run_of(tmp_path, overrides=(f'optimizer.lr={lr}',)).train() for lr in (0.1, 0.2))
    assert one.inputs != other.inputs


def test_checkpoint_from_elsewhere_needs_no_training_but_counts_as_an_input(tmp_path: Path) -> None:
    trained = tmp_path / 'teacher.pth'
    trained.write_bytes(b'weights')
    run = run_of(tmp_path, trained=trained, after=('infos',))
    evaluate = run.evaluate(tmp_path / 'evaluation')
    assert run.checkpoint == trained
    assert evaluate.after == ('infos',)
    assert hash_file(trained) in evaluate.inputs
    trained.write_bytes(b'others')
    assert run.evaluate(tmp_path / 'evaluation').inputs != evaluate.inputs


def test_missing_file_has_no_hash(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'there is no file .*nowhere'):
        hash_file(tmp_path / 'nowhere')


def test_config_is_found_from_the_root_or_by_its_name() -> None:
    assert cached_config(CONFIG) is cached_config(CONFIG)
    assert cached_config('bevformer_student').model == cached_config(CONFIG).model

"""The stages of a comparison are commands that the tools accept, and build on one another."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from projects.mmdet3d_plugin.command_line.parsers import parse_self_train
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.studies.gain.choice import choose_rows
from projects.mmdet3d_plugin.studies.gain.families import FAMILIES
from projects.mmdet3d_plugin.studies.gain.plan import make_plan
from projects.mmdet3d_plugin.studies.stages import Stage
from projects.mmdet3d_plugin.studies.training_run import ROOT
from tests.studies.gain.conftest import options_for
from tests.studies.test_demo import accepted


def by_name(stages: list[Stage]) -> dict[str, Stage]:
    return {stage.name: stage for stage in stages}


def test_every_command_is_one_that_its_tool_accepts(tmp_path: Path) -> None:
    stages = make_plan(options_for(tmp_path)).stages()
    known: set[str] = set()
    for stage in stages:
        script, *argv = stage.command
        assert (ROOT / script).is_file()
        assert accepted(script, argv)
        assert known.issuperset(stage.after)  # what is needed comes first
        known.add(stage.name)
    assert len(known) == len(stages) == 2 + 7 * 2 + 4


def test_a_world_that_needs_no_info_files_is_the_only_thing_to_wait_for(tmp_path: Path) -> None:
    family = FAMILIES['mmdet2d']
    options = options_for(tmp_path, family=family, choices=choose_rows(family), scale=family.scales['cpu'])
    stages = by_name(make_plan(options).stages())
    assert 'infos' not in stages
    assert stages['teacher'].after == ('world',)
    assert stages['fd3d_seed_0'].after == ('world', 'teacher')
    assert '--format coco' in stages['world'].shown


def test_self_training_goes_on_from_the_student_of_its_seed(tmp_path: Path) -> None:
    family = FAMILIES['sparse']
    choices, scale = choose_rows(family, ['bank2']), replace(family.scales['cpu'], seeds=(1,))
    options = options_for(tmp_path, family=family, choices=choices, scale=scale)
    stages = by_name(make_plan(options).stages())
    second = stages['bank2_seed_1']
    assert second.after == ('infos', 'labels_seed_1')
    assert f'self_training.pretrained={stages["labels_seed_1"].outputs[0]}' in second.command
    assert parse_self_train(second.command[1:]).seed == 1
    assert '--every 3' in stages['infos'].shown


def test_a_row_hangs_on_the_config_of_its_labeller(tmp_path: Path) -> None:
    family, two_stage = FAMILIES['sparse'], ROOT / 'projects/configs/synthetic/kitti_sparse_two_stage.py'
    inputs = []
    for epochs in (6, 7):
        labeller = tmp_path / f'{epochs}.py'
        labeller.write_text(f"_base_ = ['{two_stage}']\nrunner = dict(max_epochs={epochs})\n")
        scale = replace(family.scales['cpu'], seeds=(1,))
        options = options_for(tmp_path, family=family, choices=choose_rows(family, ['bank2']), scale=scale)
        options = replace(options, overrides=(f'+self_training.labeller={labeller}',))
        inputs.append(by_name(make_plan(options).stages())['bank2_seed_1'].inputs)
    shown = '"max_epochs": 7'
    assert [any(shown in text for text in texts) for texts in inputs] == [False, True]


def test_rows_of_a_seed_differ_in_the_recipe_only(tmp_path: Path) -> None:
    stages = by_name(make_plan(options_for(tmp_path)).stages())
    alone, taught = stages['none_seed_1'], stages['heatmap_seed_1']
    for stage in (alone, taught):
        assert '--seed 1' in stage.shown
        assert 'runner.max_epochs=2' in stage.command
    assert alone.after == ('infos',)
    assert taught.after == ('infos', 'teacher')
    assert f'distiller.teacher.checkpoint={stages["teacher"].outputs[0]}' in taught.command
    assert '--seed 5' in stages['teacher'].shown
    epochs = FAMILIES['camera'].scales['cpu'].teacher_epochs
    assert f'runner.max_epochs={epochs}' in stages['teacher'].command


def test_only_the_teacher_and_the_first_seed_are_drawn(tmp_path: Path) -> None:
    names = by_name(make_plan(options_for(tmp_path)).stages())
    drawn = {name for name in names if name.startswith('pictures_')}
    assert drawn == {f'pictures_{n}' for n in ('teacher', 'none_seed_0', 'inherit_seed_0', 'heatmap_seed_0')}


def test_world_and_teacher_from_elsewhere_are_used_and_watched(tmp_path: Path) -> None:
    world, teacher = tmp_path / 'a world', tmp_path / 'teacher.pth'
    world.mkdir()
    for part in ('train', 'val'):
        (world / f'nuscenes_infos_temporal_{part}.pkl').write_bytes(b'infos')
    teacher.write_bytes(b'weights')
    options = options_for(tmp_path / 'out', world=world, teacher=teacher)
    assert options.world_in_words == 'a world'
    made = dict(scenes=300, seed=11, frames=5, generation=2, reach=18.0)
    (world / 'synthetic_world.json').write_text(json.dumps(made))
    assert options.world_in_words == 'scenes 300, seed 11, frames 5, reach 18.0'
    before = by_name(make_plan(options).stages())
    assert not {'world', 'infos', 'teacher'} & before.keys()
    taught = before['heatmap_seed_0']
    assert taught.after == ()
    assert f'distiller.teacher.checkpoint={teacher}' in taught.command
    assert str(world) in taught.command
    teacher.write_bytes(b'other weights')
    after = by_name(make_plan(options).stages())
    assert after['heatmap_seed_0'].inputs != taught.inputs
    assert after['none_seed_0'] == before['none_seed_0']
    (world / 'nuscenes_infos_temporal_val.pkl').write_bytes(b'other infos')
    assert by_name(make_plan(options).stages())['none_seed_0'].inputs != before['none_seed_0'].inputs


def test_unfinished_world_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r'is no finished world: there is no .*infos_temporal_train\.pkl and no'
    ):
        make_plan(options_for(tmp_path, world=tmp_path))


def test_missing_teacher_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'there is no file .*lost\.pth'):
        make_plan(options_for(tmp_path, teacher=tmp_path / 'lost.pth'))


def test_one_teacher_cannot_be_that_of_two_pairs(tmp_path: Path) -> None:
    (choice,) = options_for(tmp_path).choices
    other = replace(choice, pair=replace(choice.pair, teacher=replace(choice.pair.teacher, title='other')))
    options = options_for(tmp_path, choices=[choice, other], teacher=tmp_path / 'teacher.pth')
    with pytest.raises(UserError, match='one file, but the rows need teacher and other'):
        make_plan(options)


def test_every_teacher_of_a_row_is_trained_before_it_and_none_that_nobody_asks(tmp_path: Path) -> None:
    family = FAMILIES['cross']

    def stages(*rows: str) -> dict[str, Stage]:
        choices = choose_rows(family, rows)
        return by_name(make_plan(options_for(tmp_path, family=family, choices=choices)).stages())

    both = stages('regions', 'both')
    assert both['both_seed_0'].after == ('infos', 'camera', 'lidar')
    assert both['regions_seed_0'].after == ('infos', 'lidar')
    for name in ('camera', 'lidar'):
        override = f'distiller.teacher.{name}.checkpoint={both[name].outputs[0]}'
        assert override in both['both_seed_0'].command
    assert f'distiller.teacher.checkpoint={both["lidar"].outputs[0]}' in both['regions_seed_0'].command
    assert 'camera' not in stages('regions')

"""Rows are found by name, and what cannot be compared is refused in a sentence."""

from dataclasses import replace
from pathlib import Path

import pytest

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.studies.gain.choice import choose_rows, find_row
from projects.mmdet3d_plugin.studies.gain.families import CAMERA
from projects.mmdet3d_plugin.studies.training_run import ROOT

RECIPE = 'projects/configs/synthetic/distill_heatmap.py'


def recipe(folder: Path, text: str) -> str:
    """A recipe that changes the demo's."""
    path = folder / 'distill_changed.py'
    path.write_text(f"_base_ = ['{ROOT / RECIPE}']\n{text}\n")
    return str(path)


def test_the_student_alone_comes_first_without_being_asked_for() -> None:
    (choice,) = choose_rows(CAMERA, ['heatmap'])
    assert [row.name for row in choice.rows] == ['none', 'heatmap']
    (choice,) = choose_rows(CAMERA, ['heatmap', 'none'])
    assert [row.name for row in choice.rows] == ['none', 'heatmap']


def test_a_recipe_file_is_a_row_of_the_pair_whose_teacher_it_names(tmp_path: Path) -> None:
    path = recipe(tmp_path, 'distiller = dict(debug=True)')
    pair, row = find_row(CAMERA, path)
    assert pair is CAMERA.pairs[0]
    assert (row.name, row.title, row.config) == ('changed', 'changed', path)


def test_a_recipe_beside_the_table_is_found_by_its_name() -> None:
    family = replace(CAMERA, pairs=(replace(CAMERA.pairs[0], rows=()),))
    _, row = find_row(family, 'heatmap')
    assert (row.name, row.config, row.goal) == ('heatmap', RECIPE, None)


def test_unknown_row_names_those_there_are() -> None:
    with pytest.raises(
        UserError,
        match='there is no row heatmop: rows of the family camera are none, inherit, heatmap, fd3d, the name of any '
        r'projects/configs/synthetic/distill_<name>\.py, or the path of a recipe',
    ):
        choose_rows(CAMERA, ['heatmop'])


def test_missing_config_of_a_row_is_named() -> None:
    pair = CAMERA.pairs[0]
    lost = replace(pair.rows[0], name='lost', config='projects/configs/synthetic/lost.py')
    family = replace(CAMERA, pairs=(replace(pair, rows=(lost,)),))
    with pytest.raises(
        UserError, match=r'the row lost needs projects/configs/synthetic/lost\.py, which is not'
    ):
        choose_rows(family, ['lost'])


def test_row_named_twice_is_refused() -> None:
    with pytest.raises(UserError, match='--rows names heatmap twice'):
        choose_rows(CAMERA, ['heatmap', 'none', 'heatmap'])


def test_teacher_of_another_family_is_refused(tmp_path: Path) -> None:
    path = recipe(tmp_path, "distiller = dict(teacher=dict(config='other.py'))")
    with pytest.raises(
        UserError, match=r'is taught by other\.py; in the family camera that must be .*teacher\.py'
    ):
        choose_rows(CAMERA, [path])


@pytest.mark.parametrize(
    ('text', 'name'),
    [
        ('model = dict(pts_bbox_head=dict(num_query=80))', 'model'),
        ('data = dict(samples_per_gpu=4)', r'data\.samples_per_gpu'),
        ('optimizer = dict(lr=1.0)', 'optimizer'),
    ],
)
def test_what_would_be_unfair_is_refused(tmp_path: Path, text: str, name: str) -> None:
    with pytest.raises(UserError, match=rf'cannot be compared with .*student\.py: {name} differ'):
        choose_rows(CAMERA, [recipe(tmp_path, text)])

"""The stages of a self-training, and what is told of them, without training anything."""

import shutil
from pathlib import Path

import pytest

from projects.mmdet3d_plugin.command_line.parsers import parse_derive, parse_mine, parse_self_train
from projects.mmdet3d_plugin.common.config import config_text, innermost_datasets, load_config
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import locked_folder
from projects.mmdet3d_plugin.datasets.sparse.sparse_split import SparseOptions, create_sparse_split
from projects.mmdet3d_plugin.engine.config_check import check_train_config
from projects.mmdet3d_plugin.engine.self_training.settings import SelfTraining
from projects.mmdet3d_plugin.studies.self_training.plan import SelfTrainPlan
from projects.mmdet3d_plugin.studies.self_training.self_train import (
    _self_train_from,
    options_of,
    result_table,
)
from projects.mmdet3d_plugin.studies.stages import StageRunner
from projects.mmdet3d_plugin.studies.training_run import ROOT

RECIPE = 'projects/configs/synthetic/kitti_sparse.py'


@pytest.fixture(scope='module')
def world(synthetic_kitti: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('world')
    for path in synthetic_kitti.glob('*.pkl'):
        shutil.copy(path, root)
    create_sparse_split(root, 'kitti', SparseOptions(every=3))
    return root


def plan(world: Path, out: Path, *more: str, config: str | Path = RECIPE) -> SelfTrainPlan:
    words = [str(config), '--data-root', str(world), '--work-dir', str(out), '--seed', '4', '--no-validate']
    return SelfTrainPlan(options_of(parse_self_train([*words, *more])))


def test_stages_follow_each_other(world: Path, tmp_path: Path) -> None:
    made = plan(world, tmp_path, '--cfg-options', 'runner.max_epochs=2', 'self_training.epochs=3')
    stages = {stage.name: stage for stage in made.stages()}
    assert list(stages) == [
        'pretrain', 'evaluate_pretrain', 'mine_01', 'derive_01', 'train_01', 'evaluate_train_01', 'mine_02', 'derive_02',
        'train_02', 'evaluate_train_02',
    ]  # fmt: skip
    assert stages['mine_01'].after == ('pretrain',)
    assert stages['mine_02'].after == ('train_01', 'mine_01')
    assert stages['derive_02'].after == ('mine_02',)
    assert stages['train_02'].after == ('derive_02',)
    assert str(tmp_path / 'runs/train_01/epoch_3.pth') in stages['mine_02'].command
    assert stages['mine_02'].command[-2:] == ('--parent', str(tmp_path / 'banks/01/bank.npz'))
    for name in ('mine_01', 'mine_02', 'derive_01', 'derive_02'):
        script, config = stages[name].command[:2]
        assert (ROOT / script).is_file()
        assert SelfTraining.from_config(load_config(config)).iterations == 2
    assert parse_mine(stages['mine_02'].command[1:]).iteration == 2
    assert parse_derive(stages['derive_02'].command[1:]).out == tmp_path / 'derived/02'
    pretrain, second = (load_config(tmp_path / f'configs/{name}.py') for name in ('pretrain', 'train_02'))
    assert (pretrain.runner.max_epochs, second.runner.max_epochs) == (2, 3)
    assert pretrain.data.train.type == 'RepeatDataset'
    assert second.data.train.ann_file == str(tmp_path / 'derived/02/infos_train.pkl')


def test_a_recipe_distils_in_every_training(world: Path, tmp_path: Path) -> None:
    """A detector that teaches itself mines with what it has learnt; its second stage is a part of no detector."""
    made = plan(world, tmp_path, config='projects/configs/synthetic/kitti_sparse_self.py')
    stages = {stage.name: stage for stage in made.stages()}
    for name in ('pretrain', 'train_02'):
        assert stages[name].command[0] == 'tools/distillation.py'
        cfg = load_config(tmp_path / f'configs/{name}.py')
        assert set(cfg.distiller.terms) == {'heads', 'sub_head'}
        assert 'self_training' not in cfg
    assert stages['mine_01'].command[0] == 'tools/mine.py'
    assert 'roi_head' not in load_config(stages['mine_01'].command[1]).model


def test_another_detector_labels(world: Path, tmp_path: Path) -> None:
    """It learns from the labels and from every bank but the last, and mines in place of the detector itself."""
    made = plan(world, tmp_path, config='projects/configs/synthetic/kitti_sparse_labeller.py')
    stages = {stage.name: stage for stage in made.stages()}
    assert [name for name in stages if not name.startswith('evaluate')] == [
        'pretrain', 'label_00', 'mine_01', 'derive_01', 'train_01', 'label_01', 'mine_02', 'derive_02', 'train_02',
    ]  # fmt: skip
    assert set(stages) >= {'evaluate_label_00', 'evaluate_label_01', 'evaluate_train_02'}
    assert stages['mine_01'].after == ('label_00',)
    assert stages['mine_02'].after == ('label_01', 'mine_01')
    assert stages['label_01'].after == stages['train_01'].after == ('derive_01',)
    for name, kind in (
        ('mine_01', True),
        ('label_00', True),
        ('label_01', True),
        ('train_01', False),
        ('pretrain', False),
    ):
        cfg = load_config(stages[name].command[1])
        assert ('roi_head' in cfg.model) is kind, name
    miner = load_config(stages['mine_02'].command[1])
    assert SelfTraining.from_config(miner).mine == made.settings.mine
    assert str(tmp_path / 'runs/label_01') in stages['mine_02'].command[2]
    first, second = (load_config(stages[name].command[1]) for name in ('label_00', 'label_01'))
    assert first.data.train.dataset.ann_file == 'kitti_infos_train_sparse1_every3_s0.pkl'
    assert second.data.train.ann_file == str(tmp_path / 'derived/01/infos_train.pkl')


def test_a_detector_of_full_size_labels(world: Path, tmp_path: Path) -> None:
    """Its own config names all labels; it sees those of the split."""
    options = [
        '--cfg-options',
        'self_training.split=kitti_sparse1_every3_s0.json',
        'self_training.iterations=2',
    ]
    made = plan(world, tmp_path, *options, config='pointpillars_kitti_sparse_labeller.py')
    stages = {stage.name: stage for stage in made.stages()}
    first, second = (load_config(stages[name].command[1]) for name in ('label_00', 'label_01'))
    for cfg in (first, second):
        check_train_config(cfg)
        assert 'roi_head' in cfg.model
    assert next(innermost_datasets(first.data.train))['ann_file'] == 'kitti_infos_train_sparse1_every3_s0.pkl'
    assert second.load_from == str(tmp_path / 'runs/label_00/epoch_80.pth')


TWO_STAGE = ROOT / 'projects/configs/synthetic/kitti_sparse_two_stage.py'


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('model = dict(roi_hed=dict())', 'roi_hed'),
        ("data = dict(test=dict(pipeline=[dict(type='LoadPointsFromFile', coord_type='LIDAR')]))", 'MultiScaleFlipAug3D'),
    ],
)  # fmt: skip
def test_a_labeller_that_does_not_fit_is_refused_before_anything_is_trained(
    world: Path, tmp_path: Path, text: str, said: str
) -> None:
    config = tmp_path / 'labeller.py'
    config.write_text(f"_base_ = ['{TWO_STAGE}']\n{text}\n")
    with pytest.raises(UserError, match=said) as caught:
        plan(world, tmp_path / 'out', '--cfg-options', f'+self_training.labeller={config}')
    assert f'self_training.labeller {config}' in str(caught.value)


@pytest.mark.parametrize(
    'name', ['missing.py', 'projects/configs/_base_/kitti.py', 'centerpoint_voxel_waymo.py']
)
def test_a_labeller_is_the_config_of_a_detector(world: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r'self_training\.labeller'):
        plan(world, tmp_path / 'out', '--cfg-options', f'+self_training.labeller={name}')


def test_a_labeller_sees_all_that_the_detector_should_find(world: Path, tmp_path: Path) -> None:
    given = 'self_training.split=kitti_sparse1_every3_s0.json', f'+self_training.labeller={TWO_STAGE}'
    with pytest.raises(UserError, match='let it look at least as far'):
        plan(world, tmp_path / 'out', '--cfg-options', *given, config='pointpillars_kitti_sparse.py')
    given = '+self_training.labeller=centerpoint_pillar_nuscenes.py'
    with pytest.raises(UserError, match='it knows no Pedestrian, so that none would be mined; it knows car'):
        plan(world, tmp_path / 'out', '--cfg-options', given)


def test_a_labeller_pastes_nothing_of_what_is_hidden(world: Path, tmp_path: Path) -> None:
    """Whatever pastes objects does it from the split's database, by whatever name."""
    config = tmp_path / 'labeller.py'
    cfg = load_config(TWO_STAGE)
    for step in cfg.data.train.dataset.pipeline:
        if step['type'] == 'ObjectSample':
            step['type'] = 'AvoidingObjectSample'
            step['db_sampler']['info_path'] = 'data/kitti/kitti_dbinfos_train.pkl'
    config.write_text(config_text(cfg))
    plan(world, tmp_path / 'out', '--cfg-options', f'+self_training.labeller={config}')
    for name, database in (
        ('label_00', 'kitti_dbinfos_train_sparse1_every3_s0.pkl'),
        ('label_01', 'derived/01/dbinfos_train.pkl'),
    ):
        dataset = next(innermost_datasets(load_config(tmp_path / f'out/configs/{name}.py').data.train))
        (paste,) = (step for step in dataset['pipeline'] if 'db_sampler' in step)
        assert paste['db_sampler']['info_path'].endswith(database)


def test_a_labeller_trains_as_long_as_it_says_and_the_detector_goes_on_from_itself(
    world: Path, tmp_path: Path
) -> None:
    """Where another detector mines, a bank does not depend on the training before, but a start from its weights does."""
    weights = tmp_path / 'given.pth'
    options = [
        '--cfg-options', 'self_training.epochs=3', 'self_training.start=previous', f'self_training.pretrained={weights}',
    ]  # fmt: skip
    recipe = 'projects/configs/synthetic/kitti_sparse_labeller.py'
    keys = []
    for content in (b'weights', b'others'):
        weights.write_bytes(content)
        made = plan(world, tmp_path / 'out', *options, config=recipe)
        keys.append(StageRunner(tmp_path, made.stages(), ROOT).keys())
    changed = {name for name in keys[0] if keys[0][name] != keys[1][name]}
    assert changed >= {'train_01', 'train_02'}
    assert not changed & {'label_00', 'label_01', 'mine_01', 'mine_02'}
    epochs = [
        load_config(tmp_path / f'out/configs/{name}.py').runner.max_epochs
        for name in ('train_01', 'label_01')
    ]
    assert epochs == [3, 6]


def test_what_is_finished_is_not_done_again_and_a_new_split_is(world: Path, tmp_path: Path) -> None:
    keys = [StageRunner(tmp_path, plan(world, tmp_path).stages(), ROOT).keys() for _ in range(2)]
    assert keys[0] == keys[1]
    other = plan(world, tmp_path, '--cfg-options', 'self_training.mine.least_score=0.2')
    changed = StageRunner(tmp_path, other.stages(), ROOT).keys()
    same = {name for name in keys[0] if keys[0][name] == changed[name]}
    assert same == {'pretrain', 'evaluate_pretrain'}  # they know nothing of mining
    (
        world / 'kitti_sparse1_every3_s0.json'
    ).unlink()  # else one that was chosen otherwise is not written over
    create_sparse_split(world, 'kitti', SparseOptions(every=3, least_points=30))
    again = StageRunner(tmp_path, plan(world, tmp_path).stages(), ROOT).keys()
    assert not [name for name in keys[0] if keys[0][name] == again[name]]


def test_processes_and_weights_from_elsewhere(world: Path, tmp_path: Path) -> None:
    weights = tmp_path / 'given.pth'
    weights.write_bytes(b'weights')
    given = f'self_training.pretrained={weights}'
    options = ['--processes', '2', '--cfg-options', given, 'self_training.iterations=1']
    made = plan(world, tmp_path, *options)
    stages = {stage.name: stage for stage in made.stages()}
    assert list(stages) == ['evaluate_pretrain', 'mine_01', 'derive_01', 'train_01', 'evaluate_train_01']
    for name in ('mine_01', 'train_01', 'evaluate_train_01'):
        assert stages[name].command[:4] == ('tools/torchrun.py', '--standalone', '--nproc-per-node', '2')
    assert stages['derive_01'].command[0] == 'tools/derive_training_set.py'
    assert str(weights) in stages['mine_01'].command
    with pytest.raises(UserError, match='--processes is 0'):
        plan(world, tmp_path, '--processes', '0')


def test_weights_are_found_from_any_folder(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands run in the root of the project."""
    (tmp_path / 'given.pth').write_bytes(b'weights')
    monkeypatch.chdir(tmp_path)
    given = ['--cfg-options', 'self_training.pretrained=given.pth']
    stages = {
        stage.name: stage for stage in plan(world, tmp_path / 'out', *given, config=ROOT / RECIPE).stages()
    }
    assert str(tmp_path / 'given.pth') in stages['mine_01'].command


def test_a_second_run_leaves_the_configs_of_the_first_alone(world: Path, tmp_path: Path) -> None:
    plan(world, tmp_path)
    configs = {path: path.read_bytes() for path in (tmp_path / 'configs').iterdir()}
    words = [RECIPE, '--data-root', str(world), '--work-dir', str(tmp_path), '--seed', '9']
    arguments = parse_self_train([*words, '--cfg-options', 'self_training.epochs=3'])
    with locked_folder(tmp_path), pytest.raises(UserError, match='is at work in'):
        _self_train_from(arguments)
    assert {path: path.read_bytes() for path in (tmp_path / 'configs').iterdir()} == configs


def test_the_table_has_a_row_per_training() -> None:
    metrics = {'mAP_3d_R40_moderate': 0.5, 'AP_3d_R40_moderate/Car': 0.25, 'AP_bev_R40_easy/Car': 1.0}
    bank = dict(counts=dict(Car=dict(accepted=7)), thresholds=dict(Car=dict(score=0.4)))
    table = result_table([dict(iteration=0, metrics=metrics), dict(iteration=1, metrics=metrics, **bank)])
    cells = [list(column.cells) for column in table.columns]
    assert cells == [['none', '1'], ['-', '7 from 0.40'], ['50.00', '50.00'], ['25.00', '25.00']]
    labelled = result_table(
        [dict(iteration=0, metrics=metrics, labeller=metrics), dict(iteration=1, metrics=metrics, **bank)]
    )
    assert labelled.columns[-1].header == 'mAP_3d_R40_moderate, labeller'
    assert list(labelled.columns[-1].cells) == ['50.00', '-']

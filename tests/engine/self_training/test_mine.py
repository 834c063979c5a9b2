"""Mining with a real detector, of random weights: what it reads, and that it does not matter how many look."""

import pickle
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmcv import Config
from mmdet3d.core.bbox import LiDARInstance3DBoxes

from projects.mmdet3d_plugin.common import files
from projects.mmdet3d_plugin.common.config import innermost_datasets, load_config
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.datasets.sparse.instance_bank import InstanceBank
from projects.mmdet3d_plugin.datasets.sparse.mining import Detections, Finding
from projects.mmdet3d_plugin.datasets.sparse.mining import mine as decide
from projects.mmdet3d_plugin.datasets.sparse.mining_settings import MiningSettings
from projects.mmdet3d_plugin.datasets.sparse.sparse_split import (
    SparseOptions,
    SparseSplit,
    create_sparse_split,
)
from projects.mmdet3d_plugin.engine.build import build_loader, build_split
from projects.mmdet3d_plugin.engine.config_check import check_train_config
from projects.mmdet3d_plugin.engine.inference import run_inference, sample_indices
from projects.mmdet3d_plugin.engine.launch import Launch
from projects.mmdet3d_plugin.engine.self_training import mine
from projects.mmdet3d_plugin.engine.self_training.derive import derive
from projects.mmdet3d_plugin.engine.self_training.iteration_config import iteration_config, labelled_config
from projects.mmdet3d_plugin.engine.self_training.settings import SelfTraining
from projects.mmdet3d_plugin.studies.self_training.bank_page import true_frames

ALL = dict(least_score=0.0, score=0.0, consistency=0.01, least_points=0, sigmas=1e6)
TAG = 'sparse1_every3_s0'


def config(root: Path, **settings: Any) -> Config:
    """The scaled-down config with settings of ``self_training``."""
    cfg = load_config('kitti_sparse.py', None, str(root))
    cfg.self_training.update(settings)
    return cfg


@pytest.fixture(scope='module')
def root(synthetic_kitti: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world of six frames with a sparse split, its clouds linked."""
    root = tmp_path_factory.mktemp('sparse')
    for path in synthetic_kitti.glob('*.pkl'):
        shutil.copy(path, root)
    infos = pickle.loads((root / 'kitti_infos_train.pkl').read_bytes())
    (root / 'kitti_infos_train.pkl').write_bytes(pickle.dumps(infos[:6]))
    (root / 'training').mkdir()
    (root / 'training/velodyne_reduced').symlink_to(synthetic_kitti / 'training/velodyne_reduced')
    (root / 'kitti_gt_database').symlink_to(synthetic_kitti / 'kitti_gt_database')
    create_sparse_split(root, 'kitti', SparseOptions(every=3))
    return root


@pytest.fixture(scope='module')
def checkpoint(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights."""
    torch.manual_seed(0)
    model = build_model(config(root).model)
    path = tmp_path_factory.mktemp('weights') / 'random.pth'
    torch.save(dict(meta={}, state_dict=model.state_dict()), path)
    return path


@pytest.fixture(scope='module')
def bank(root: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mined from it."""
    out = tmp_path_factory.mktemp('banks') / 'bank.npz'
    mine.mine_bank(config(root, mine=ALL), checkpoint, out, threads=1)
    return out


def test_it_sees_two_views_and_says_where_everything_comes_from(bank: Path) -> None:
    found = InstanceBank.load(bank)
    assert found.accepted.any()
    assert found.unsure.any()
    assert (found.consistency[found.accepted] >= 0.01).all()
    assert len(set(found.frame.tolist())) == 6
    header = found.header
    assert header['settings']['sigmas'] == 1e6
    assert (header['iteration'], header['seed'], header['split_tag'], header['parent']) == (1, 0, TAG, None)
    assert len(header['split']) == 64
    counts = np.array([list(count.values()) for count in header['counts'].values()])
    assert counts.sum() == len(found)


def _two_processes(model: Any, loader: Any, launch: Launch, *_: Any) -> list[Any]:
    """As two processes share a set out, one after the other."""
    found = {}
    for rank in range(2):
        shard = build_loader(
            Config(dict(data={})), loader.dataset, False, Launch(rank, 2, launch.device, False)
        )
        indices = sample_indices(shard)
        part = torch.utils.data.Subset(loader.dataset, indices)
        part_loader = torch.utils.data.DataLoader(part, collate_fn=loader.collate_fn)
        found.update(zip(indices, run_inference(model, part_loader, launch), strict=True))
    assert len(indices) == 3
    return [found[index] for index in range(len(found))]


def test_hidden_labels_are_not_read_and_two_processes_mine_the_same(
    root: Path, checkpoint: Path, bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder in which the full labels are garbage, those of the text files are gone: not a byte is another."""
    other = tmp_path / 'data'
    other.mkdir()
    for path in (*root.glob(f'*{TAG}*'), root / 'training'):
        (other / path.name).symlink_to(path)
    for name in ('kitti_infos_train.pkl', 'kitti_dbinfos_train.pkl'):
        (other / name).write_bytes(b'garbage')
    monkeypatch.setattr(mine, 'run_inference', _two_processes)
    out = tmp_path / 'bank.npz'
    mine.mine_bank(config(other, mine=ALL), checkpoint, out, threads=1)
    assert out.read_bytes() == bank.read_bytes()
    first, second = tmp_path / 'first', tmp_path / 'second'
    derive(config(root), bank, first)
    derive(config(other), out, second)
    for path in (path for path in first.rglob('*') if path.is_file()):
        assert path.read_bytes() == (second / path.relative_to(first)).read_bytes()


class Killed(BaseException):
    """Nothing catches it but what cleans up."""


def test_a_run_killed_at_any_write_goes_on_to_the_same_bytes(
    root: Path, checkpoint: Path, bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mine and derive, killed before the first file is whole, before the second, and so on, each time in the folder that
    was left behind, with half of the file lying about as a killed process leaves it."""
    cfg, whole = config(root), tmp_path / 'whole'
    mined = InstanceBank.load(bank)
    small = mined.select(np.arange(0, len(mined), 200))
    small.save(tmp_path / 'small.npz')
    derive(cfg, tmp_path / 'small.npz', whole)
    replace, left, kills = files.os.replace, [0], 0

    def dying(source: Path, target: Path) -> None:
        if not left[0]:
            Path(f'{target}.left.tmp').write_bytes(Path(source).read_bytes()[:10])
            raise Killed
        left[0] -= 1
        replace(source, target)

    monkeypatch.setattr(files.os, 'replace', dying)
    while True:
        left[0] = kills
        try:
            small.save(tmp_path / 'again.npz')
            derive(cfg, tmp_path / 'again.npz', tmp_path / 'again')
            break
        except Killed:
            kills += 1
    written = [path for path in whole.rglob('*') if path.is_file()]
    assert kills >= len(written)
    assert (tmp_path / 'again.npz').read_bytes() == (tmp_path / 'small.npz').read_bytes()
    for path in written:
        assert path.read_bytes() == (tmp_path / 'again' / path.relative_to(whole)).read_bytes()


@pytest.mark.parametrize('unsure', ['remove', 'ignore', 'keep'])
def test_a_derived_config_trains(root: Path, bank: Path, tmp_path: Path, unsure: str) -> None:
    cfg = config(root, unsure=unsure, fill=unsure == 'remove', start='previous')
    derive(cfg, bank, tmp_path)
    made = iteration_config(cfg, SelfTraining.from_config(cfg), tmp_path, Path('before.pth'))
    assert (made.load_from, made.data.train.type) == ('before.pth', 'KittiFrames')
    kinds = [step['type'] for step in made.data.train.pipeline]
    assert ('RemovePoints' in kinds, 'FillHoles' in kinds, 'IgnoreAmbiguous' in kinds) == (
        unsure == 'remove',
        unsure == 'remove',
        unsure == 'ignore',
    )
    assert 'ObjectSample' not in kinds
    dataset = build_split(made, 'train', test_mode=False)
    assert len(dataset) == 6
    sample = dataset[0]
    assert ('gt_bboxes_ignore' in sample) == (unsure == 'ignore')
    if unsure != 'ignore':
        return
    model = build_model(made.model)
    batch = {key: [value.data] for key, value in sample.items()}
    plain = {key: value for key, value in batch.items() if key != 'gt_bboxes_ignore'}
    losses = [sum(model(return_loss=True, **given)['loss_cls']).item() for given in (plain, batch)]
    assert losses[0] > losses[1] > 0  # background is left out


def test_nothing_mined_is_plain_training_to_the_bit(root: Path, checkpoint: Path, tmp_path: Path) -> None:
    """B7: no score reaches 1.1, so nothing is accepted or removed, and every batch is that of training on the labels."""
    split = create_sparse_split(root, 'kitti', SparseOptions())
    never = dict(ALL, score=1.1, least_score=1.1)
    cfg = config(root, split=split.record_file, mine=never)
    nothing = mine.mine_bank(cfg, checkpoint, tmp_path / 'bank.npz', threads=1)
    assert (len(nothing), nothing.accepted.sum(), nothing.unsure.sum()) == (0, 0, 0)
    counts = derive(cfg, tmp_path / 'bank.npz', tmp_path / 'set')
    assert (counts.mined, counts.ambiguous) == (0, 0)
    plain = labelled_config(cfg, split)
    made = iteration_config(plain, SelfTraining.from_config(cfg), tmp_path / 'set', tmp_path)
    assert made.model == plain.model
    plain.data.train = next(
        innermost_datasets(plain.data.train)
    )  # each frame once, as the derived set has it
    alike = zip(*(epoch(each) for each in (plain, made)), strict=True)
    for ours, others in alike:
        assert ours.keys() == others.keys()
        for one, other in zip(ours['points'].data[0], others['points'].data[0], strict=True):
            assert torch.equal(one, other)
        for one, other in zip(ours['gt_bboxes_3d'].data[0], others['gt_bboxes_3d'].data[0], strict=True):
            assert torch.equal(one.tensor, other.tensor)
        for one, other in zip(ours['gt_labels_3d'].data[0], others['gt_labels_3d'].data[0], strict=True):
            assert torch.equal(one, other)
            assert len(one) > 3  # pasted objects


def epoch(cfg: Config) -> list[dict[str, Any]]:
    """The three batches of an epoch."""
    dataset = build_split(cfg, 'train', test_mode=False)
    loader = build_loader(cfg, dataset, True, Launch(0, 1, torch.device('cpu'), False), 3)
    loader.sampler.set_epoch(1)
    batches = list(loader)
    assert len(batches) == 3
    return batches


def test_where_all_is_labelled_nothing_is_mined(root: Path) -> None:
    """B7: a detector that finds what is labelled finds nothing else, and nothing is unsure."""
    layout = SparseSplit.read(root / f'kitti_{TAG}.json').layout
    classes, findings = config(root).class_names, []
    for info in layout.infos(layout.read(root / 'kitti_infos_train.pkl')):
        known = np.isin(layout.names(info), classes)
        boxes = layout.boxes(info).astype(np.float64)[known]
        labels = np.array([classes.index(name) for name in layout.names(info)[known]], np.int64)
        seen = Detections(boxes, np.full(len(boxes), 0.9), labels)
        points = partial(np.zeros, (0, 3), np.float32)
        findings.append(Finding(layout.frame(info), seen, seen, boxes, labels, points))
    bank = decide(findings, classes, MiningSettings(score=0.5, least_points=0))
    assert sum(len(finding.boxes) for finding in findings) > 20
    assert bank.accepted.sum() == bank.unsure.sum() == 0


def test_any_number_of_workers_loads_the_same_batches(root: Path, bank: Path, tmp_path: Path) -> None:
    """Removal, pasting, flips and turns draw from seed, epoch and place of a frame alone."""
    cfg = config(root)
    derive(cfg, bank, tmp_path)
    plan = SelfTraining.from_config(cfg)
    made = iteration_config(
        labelled_config(cfg, SparseSplit.read(root / plan.split)), plan, tmp_path, tmp_path
    )
    batches = []
    for made.data.workers_per_gpu in (0, 2):
        loader = build_loader(
            made,
            build_split(made, 'train', test_mode=False),
            True,
            Launch(0, 1, torch.device('cpu'), False),
            3,
        )
        loader.sampler.set_epoch(1)
        batches.append([batch['points'].data[0] for batch in loader])
    assert len(batches[0]) == 3
    for ours, others in zip(*batches, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(ours, others, strict=True))


def head_and_anchors(root: Path) -> tuple[torch.nn.Module, torch.Tensor]:
    """A head that leaves out what lies in unsure boxes, and its anchors (cells, classes, yaws, 7)."""
    cfg = config(root).model
    for assigner in cfg.train_cfg.assigner:
        assigner['ignore_iof_thr'] = 0.3
    head = build_model(cfg).bbox_head
    grid = head.anchor_generator.grid_anchors([(56, 56)], device='cpu')[0]
    return head, grid.reshape(-1, *grid.shape[-3:])


def test_classes_that_a_frame_lacks_are_ignored_too(root: Path) -> None:
    """In a frame without objects, anchors in an unsure box are background for no class; all others still are."""
    head, anchors = head_and_anchors(root)
    unsure = torch.tensor([[10.0, 1.0, -1.5, 3.9, 1.6, 1.6, 0.0]])
    for label, assigner in enumerate(head.bbox_assigner):
        mine, none = anchors[:, label].reshape(-1, 7), LiDARInstance3DBoxes(torch.zeros(0, 7))
        plain, thinned = (
            head.anchor_target_single_assigner(assigner, mine, none, boxes, torch.zeros(0).long(), {}, 3)
            for boxes in (None, unsure)
        )
        (left_out,) = (plain[1] != thinned[1]).nonzero(as_tuple=True)
        assert (plain[1] == 1).all()
        assert len(left_out) == len(plain[-1]) - len(thinned[-1]) > 0
        assert ((mine[left_out, :2] - unsure[:, :2]).abs() < 3).all()


def test_a_label_in_an_unsure_box_counts(root: Path) -> None:
    """Anchors on an object stay its own, whatever reaches over it; those beside it are left out as background."""
    head, anchors = head_and_anchors(root)
    box = torch.tensor([[10.0, 1.0, -1.5, 3.9, 1.6, 1.6, 0.0]])
    plain, thinned = (
        head.anchor_target_single_assigner(
            head.bbox_assigner[2],
            anchors[:, 2].reshape(-1, 7),
            LiDARInstance3DBoxes(box),
            unsure,
            torch.tensor([2]),
            {},
            3,
        )
        for unsure in (None, box * torch.tensor([1, 1, 1, 2, 2, 1, 1]))
    )
    assert len(plain[-2])
    for before, after in ((plain[0], thinned[0]), *zip(plain[2:-1], thinned[2:-1], strict=True)):
        assert torch.equal(before, after)
    assert (thinned[1][thinned[-2]] == 1).all()
    assert len(thinned[-1]) < len(plain[-1])


def test_what_cannot_be_is_said(root: Path, checkpoint: Path, tmp_path: Path) -> None:
    for settings, said in (
        (dict(unsure='hide'), "unsure is 'hide'"),
        (dict(iterations=0), 'iterations is 0'),
        (dict(epochs=0), r'self_training\.epochs is 0'),
        (dict(iterations=1.5), r'self_training\.iterations is 1.5'),
        (dict(fill=True, unsure='keep'), "say unsure='remove' too"),
        (dict(mine=dict(score=dict(Car=0.5))), 'no threshold for Pedestrian'),
        (dict(splits='a'), "takes no 'splits'"),
        (dict(split='kitti_none.json'), 'there is no file'),
    ):
        with pytest.raises(UserError, match=said):
            mine.mine_bank(config(root, **settings), checkpoint, tmp_path / 'bank.npz')
    cfg = config(root)
    cfg.pop('self_training')
    with pytest.raises(UserError, match='no self_training'):
        SelfTraining.from_config(cfg)
    cfg = config(root, unsure='ignore')
    cfg.model.train_cfg = dict()
    with pytest.raises(UserError, match="say 'remove'"):
        iteration_config(cfg, SelfTraining.from_config(cfg), tmp_path, tmp_path)
    cfg = config(root, unsure='ignore')
    next(innermost_datasets(cfg.data.train))['pipeline'].pop(-2)
    with pytest.raises(UserError, match='has no DefaultFormatBundle3D'):
        iteration_config(cfg, SelfTraining.from_config(cfg), tmp_path, tmp_path)
    cfg.data.train = [cfg.data.train, cfg.data.train]
    with pytest.raises(UserError, match='joins 2 datasets'):
        labelled_config(cfg, SparseSplit.read(root / f'kitti_{TAG}.json'))


def test_what_is_unsure_can_be_ignored_by_hosts_that_say_so(root: Path, tmp_path: Path) -> None:
    made = {}
    for name in ('kitti_ia_ssd_sparse', 'point_rcnn_kitti_sparse'):
        cfg = load_config(f'{name}.py', None, str(root))
        cfg.self_training.update(split=f'kitti_{TAG}.json', unsure='ignore')
        made[name] = cfg, SelfTraining.from_config(cfg), tmp_path, tmp_path / 'before.pth'
    steps = iteration_config(*made['kitti_ia_ssd_sparse']).data.train.pipeline
    assert [step['type'] for step in steps[-3:-1]] == ['IgnoreAmbiguous', 'DefaultFormatBundle3D']
    assert 'gt_bboxes_ignore' in steps[-1]['keys']
    with pytest.raises(UserError, match="which PointSetRCNN has not: say 'remove'"):
        iteration_config(*made['point_rcnn_kitti_sparse'])


def test_centre_heads_ignore_what_is_unsure(root: Path, tmp_path: Path) -> None:
    cfg, plan = config(root, unsure='ignore'), load_config('kitti_two_stage_centerpoint.py')
    cfg.model = plan.model
    made = iteration_config(cfg, SelfTraining.from_config(cfg), tmp_path, tmp_path / 'before.pth')
    assert 'gt_bboxes_ignore' in made.data.train.pipeline[-1]['keys']


def test_banks_are_judged_by_the_labels_that_the_split_was_made_from(
    root: Path, bank: Path, tmp_path: Path
) -> None:
    """Which objects were kept is said by their rows in that file."""
    shutil.copytree(root, tmp_path, symlinks=True, dirs_exist_ok=True)
    assert len(true_frames(config(tmp_path), InstanceBank.load(bank))) == 6
    full = tmp_path / 'kitti_infos_train.pkl'
    full.write_bytes(pickle.dumps(pickle.loads(full.read_bytes())[::-1]))
    with pytest.raises(UserError, match=r'changed since kitti_sparse1_every3_s0\.json was made'):
        true_frames(config(tmp_path), InstanceBank.load(bank))


def test_mining_sees_what_a_detector_would_not_tell() -> None:
    """Limits lie in the settings of testing, in the coder of a centre head and in a second stage."""
    model = load_config('kitti_two_stage_centerpoint.py').model
    model.roi_head.score_thr = 0.3
    seen = mine.see_more(model, 0.03)
    places = seen.roi_head.score_thr, seen.pts_bbox_head.bbox_coder.score_threshold
    assert (*places, seen.test_cfg.pts.score_threshold) == (0.03, 0.03, 0.03)
    assert model.roi_head.score_thr == 0.3
    assert mine.see_more(model, 0.5) == model


@pytest.mark.parametrize('name', ['second', 'pointpillars', 'point_rcnn', 'ia_ssd'])
def test_configs_of_full_size_follow(root: Path, tmp_path: Path, name: str) -> None:
    """The first training has the labels of the split, the next the derived set; what cannot be ignored is removed."""
    cfg = load_config(f'{name}_kitti_sparse.py', None, str(root))
    plan = SelfTraining.from_config(cfg)
    first = labelled_config(cfg, SparseSplit.read(root / f'kitti_{TAG}.json'))
    inner = next(innermost_datasets(first.data.train))
    assert inner['ann_file'] == f'kitti_infos_train_{TAG}.pkl'
    (paste,) = (step for step in inner['pipeline'] if step['type'] == 'ObjectSample')
    assert paste['db_sampler']['info_path'] == f'{root}/kitti_dbinfos_train_{TAG}.pkl'
    made = iteration_config(first, plan, tmp_path, tmp_path / 'before.pth')
    check_train_config(made)
    kinds = [step['type'] for step in made.data.train.pipeline]
    assert kinds.index('RemovePoints') < kinds.index('AvoidingObjectSample')
    assert mine.see_more(made.model, 0.01).test_cfg != made.model.test_cfg

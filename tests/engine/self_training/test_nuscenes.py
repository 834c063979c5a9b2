"""From a split of nuScenes to the training set that its bank makes, with a detector of random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv import Config

from projects.mmdet3d_plugin.common.config import innermost_datasets, load_config
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.datasets.builder import build_dataset
from projects.mmdet3d_plugin.datasets.sparse.sparse_split import (
    SparseOptions,
    SparseSplit,
    create_sparse_split,
)
from projects.mmdet3d_plugin.datasets.transforms.remove_points import RemovePoints
from projects.mmdet3d_plugin.engine.self_training.derive import derive
from projects.mmdet3d_plugin.engine.self_training.iteration_config import iteration_config, labelled_config
from projects.mmdet3d_plugin.engine.self_training.mine import mine_bank
from projects.mmdet3d_plugin.engine.self_training.settings import SelfTraining

TAG = 'sparse1_s0'


@pytest.fixture(scope='module')
def root(tiny_nuscenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world with a sparse split; its files linked."""
    root = tmp_path_factory.mktemp('sparse_nuscenes')
    for entry in tiny_nuscenes.iterdir():
        (root / entry.name).symlink_to(entry)
    create_sparse_split(root, 'nuscenes', SparseOptions())
    return root


def config(root: Path) -> Config:
    cfg = load_config('centerpoint_near_teacher.py', None, str(root))
    loose = dict(least_score=0.05, score=0.05, consistency=0.01, least_points=0, sigmas=1e6)
    cfg.model.pts_bbox_head.bbox_coder.max_num = 20  # random weights see objects everywhere
    cfg.self_training = dict(split=f'nuscenes_{TAG}.json', mine=loose)
    return cfg


def test_from_labels_to_the_next_training_set(root: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    cfg = config(root)
    weights = tmp_path / 'random.pth'
    torch.save(dict(meta={}, state_dict=build_model(cfg.model).state_dict()), weights)
    bank = mine_bank(cfg, weights, tmp_path / 'bank.npz', threads=1)
    assert bank.accepted.any()
    split = SparseSplit.read(root / f'nuscenes_{TAG}.json')
    counts = derive(cfg, tmp_path / 'bank.npz', tmp_path / 'derived')
    assert (counts.frames, counts.mined) == (len(split.kept), int(bank.accepted.sum()))

    made = iteration_config(
        labelled_config(cfg, split), SelfTraining.from_config(cfg), tmp_path / 'derived', weights
    )
    settings = next(innermost_datasets(made.data.train))
    kinds = [step['type'] for step in settings['pipeline']]
    removed = kinds.index('RemovePoints')
    dataset = build_dataset({**settings, 'pipeline': settings['pipeline'][: removed + 1]})
    whole = build_dataset({**settings, 'pipeline': settings['pipeline'][:removed]})
    unsure = 0
    for i, info in enumerate(dataset.infos):
        rows = bank.in_frame(info['token'])
        mined = bank.box[rows[bank.accepted[rows]]]
        labels = dataset.get_ann_info(i)['gt_bboxes_3d'].tensor.numpy()
        kept = len(labels) - len(mined)
        assert 0 <= kept <= 1
        np.testing.assert_allclose(labels[kept:, :7], mined, atol=1e-5)
        ambiguous = bank.box[rows[bank.unsure[rows]]]
        points, before = (np.asarray(made_set[i]['points'].tensor) for made_set in (dataset, whole))
        assert len(points) == len(before) - RemovePoints().inside(before[:, :3], ambiguous).sum()
        unsure += len(ambiguous)
    assert unsure

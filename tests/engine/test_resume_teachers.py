"""A run under teachers of every kind goes on to the bit, over fifty steps, after its process was killed in one of them."""

import itertools
import os
import signal
from pathlib import Path
from typing import Any

import torch
from mmcv import Config
from mmcv.parallel import DataContainer
from mmdet.datasets.builder import DATASETS
from torch.utils.data import Dataset

from projects.mmdet3d_plugin.common.checkpoint import read_checkpoint
from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.engine.distill import distill
from projects.mmdet3d_plugin.engine.train import TrainOptions
from tests.distill.test_several_teachers import one
from tests.distill.toy_host import CLASSES, toy_batch
from tests.engine.test_train import assert_same_end
from tests.engine.toy import ONE_PROCESS, toy_config
from tests.robustness.forked import run

HINT = dict(student='backbone.0', teacher='bev')
FEATURES = dict(type='FeatureL2', connector='resize_conv')
TEACHERS = dict(
    big=one(6, 16),
    small=one(5, 4),
    mean=dict(type='EMATeacher', momentum=0.9),
    own=dict(type='SelfTeacher'),
)
TERMS = [dict(FEATURES, name=name, teacher=name, on=HINT if name == 'own' else 'bev') for name in TEACHERS]


@DATASETS.register_module()
class ToyFrames(Dataset):
    """Ten samples of the toy host, jittered by torch's chance."""

    CLASSES = CLASSES

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = toy_batch(1, seed=int(index))
        image = sample['img'][0] + 0.1 * torch.rand(())
        rest = {
            key: DataContainer(value[0], cpu_only=key == 'img_metas')
            for key, value in sample.items()
            if key != 'img'
        }
        return dict(rest, img=DataContainer(image, stack=True))


def recipe(folder: Path) -> Config:
    """Fifty steps of the toy host, with a checkpoint after every eight."""
    distiller = dict(type='Distiller', teacher=TEACHERS, terms=TERMS)
    return toy_config(
        folder,
        10,
        **{
            'model': dict(_delete_=True, type='ToyBEVHost'),
            'class_names': CLASSES,
            'data.train': dict(type='ToyFrames'),
            'checkpoint_config': dict(interval=8, by_epoch=False),
            'distiller': distiller,
        },
    )


def run_until_killed(folder: Path, step: int) -> int:
    """Train in a process that is killed in one of its steps; returns how it ended."""

    def main(_: Any) -> None:
        numbers, train_step = itertools.count(), Distiller.train_step

        def dying(self: Distiller, *args: Any, **kwargs: Any) -> dict[str, Any]:
            if next(numbers) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return train_step(self, *args, **kwargs)

        Distiller.train_step = dying
        distill(recipe(folder), TrainOptions(validate=False), ONE_PROCESS)

    return run(main).status


def test_fifty_steps_of_which_one_was_fatal(tmp_path: Path) -> None:
    """A8, and the exactness of resuming: weights, the average, moments and chance, under several teachers."""
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    distill(recipe(whole), TrainOptions(validate=False), ONE_PROCESS)
    assert run_until_killed(parts, 29) == -signal.SIGKILL
    assert {path.stem for path in parts.glob('*_*.pth')} == {'iter_8', 'iter_16', 'iter_24'}
    torch.manual_seed(99)
    distill(recipe(parts), TrainOptions(validate=False, resume='auto'), ONE_PROCESS)
    content = read_checkpoint(whole / 'epoch_10.pth')
    assert content['meta']['iter'] == 50
    assert any(name.startswith('distill.teacher_mean.') for name in content['state_dict'])
    assert_same_end(whole / 'epoch_10.pth', parts / 'epoch_10.pth')

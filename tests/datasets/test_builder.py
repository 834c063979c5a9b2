from pathlib import Path

import pytest
import torch
from mmcv import Config
from mmdet.datasets import build_dataset
from mmdet3d.core.bbox import LiDARInstance3DBoxes

from projects.mmdet3d_plugin.datasets.builder import build_dataloader
from tests.datasets.test_nuscenes_temporal_dataset import make

BASE_CONFIG = Path(__file__).parents[2] / 'projects/configs/_base_/datasets/nuscenes_temporal.py'


def test_the_shared_config_loads_the_real_frame(one_frame_root: Path) -> None:
    """All that must be changed is ``data_root``; a queue of one frame spares half a gigabyte."""
    data = Config.fromfile(BASE_CONFIG).data
    data.train.queue_length = 1
    for part in (data.train, data.val):
        part.data_root = str(one_frame_root)
    batch = next(iter(build_dataloader(build_dataset(data.train), workers_per_gpu=0)))
    assert batch['img'].data[0].shape == (1, 1, 6, 3, 928, 1600)
    assert batch['gt_bboxes_3d'].data[0][0].tensor.shape == (50, 9)
    assert len(build_dataset(data.val)) == 0


def test_batches_have_the_documented_form(tiny_nuscenes: Path) -> None:
    loader = build_dataloader(make(tiny_nuscenes), samples_per_gpu=2, workers_per_gpu=0)
    batch = next(iter(loader))
    assert batch['img'].data[0].shape == (2, 3, 6, 3, 32, 32)
    assert [len(queue) for queue in batch['img_metas'].data[0]] == [3, 3]
    assert all(isinstance(boxes, LiDARInstance3DBoxes) for boxes in batch['gt_bboxes_3d'].data[0])
    assert [labels.dtype for labels in batch['gt_labels_3d'].data[0]] == [torch.int64] * 2
    assert len(loader) == 4


@pytest.mark.parametrize('world_size', [1, 2])
def test_testing_goes_through_whole_scenes(tiny_nuscenes: Path, world_size: int) -> None:
    dataset = make(tiny_nuscenes, test_mode=True, queue_length=1)
    seen = []
    for rank in range(world_size):
        loader = build_dataloader(dataset, workers_per_gpu=0, train=False, rank=rank, world_size=world_size)
        seen.append([batch['img_metas'].data[0][0][0]['sample_token'] for batch in loader])
    assert [token for share in seen for token in share] == [info['token'] for info in dataset.infos]
    assert len({token.rsplit('-', 1)[0] for token in seen[0]}) == (2 if world_size == 1 else 1)


def test_epochs_do_not_depend_on_the_number_of_workers(tiny_nuscenes: Path) -> None:
    def epoch(workers: int) -> list[torch.Tensor]:
        loader = build_dataloader(make(tiny_nuscenes, jitter=True), workers_per_gpu=workers, seed=5)
        loader.sampler.set_epoch(2)
        return [batch['img'].data[0] for batch in loader]

    alone, helped = epoch(0), epoch(2)
    assert len(alone) == len(helped) == 8
    assert all(torch.equal(a, b) for a, b in zip(alone, helped, strict=True))


def test_more_processes_than_batches_are_not_started(tiny_nuscenes: Path) -> None:
    """Each of a thousand would hold a copy of the dataset."""
    for train, most in ((True, 4), (False, 8)):
        loader = build_dataloader(
            make(tiny_nuscenes), samples_per_gpu=2 if train else 1, workers_per_gpu=1000, train=train
        )
        assert loader.num_workers == most

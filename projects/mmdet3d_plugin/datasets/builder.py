"""Data loaders for training and testing, in one process or many."""

import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmcv.parallel import collate
from mmdet.datasets import ClassBalancedDataset, RepeatDataset
from mmdet3d.datasets import build_dataset as mmdet3d_build_dataset
from torch.utils.data import DataLoader, Dataset

from projects.mmdet3d_plugin.common.config import innermost_datasets
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.datasets.dataset_wrappers import BalancedDataset, JoinedDataset, keep_seeds
from projects.mmdet3d_plugin.datasets.info_files import create_command
from projects.mmdet3d_plugin.datasets.nuscenes_temporal_dataset import NuScenesTemporalDataset
from projects.mmdet3d_plugin.datasets.samplers import SceneSampler, TrainSampler


def build_dataloader(
    dataset: NuScenesTemporalDataset,
    samples_per_gpu: int = 1,
    workers_per_gpu: int = 2,
    train: bool = True,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> DataLoader:
    """Make the loader of one process.

    Args:
        dataset: anything with a length; for testing it also has ``scene_tokens``.
        samples_per_gpu: batch size B.
        workers_per_gpu: loading processes; 0 loads in this one.
        train: shuffle; else whole scenes in order.
        seed: equal in all processes; with the epoch it fixes order, queues and jitter.
        rank: of this process.
        world_size: number of processes.

    Returns:
        Batches of DataContainers, ``img`` (B, T, num_cams, 3, H, W). Call ``loader.sampler.set_epoch`` before each
        training epoch (mmcv's DistSamplerSeedHook does, also with one process).
    """
    if train:
        sampler = TrainSampler(dataset, seed, rank, world_size)
    elif not hasattr(dataset, 'scene_tokens'):
        raise UserError(
            f'{type(dataset).__name__} does not say its scene_tokens, which testing shares out; for data in COCO format '
            'the type is CocoImages'
        )
    else:
        sampler = SceneSampler(dataset.scene_tokens, rank, world_size)
    batches = -(-len(sampler) // samples_per_gpu)
    workers_per_gpu = min(workers_per_gpu, batches)  # what more of them would load is nothing
    return DataLoader(
        dataset,
        batch_size=samples_per_gpu,
        sampler=sampler,
        num_workers=workers_per_gpu,
        collate_fn=partial(collate, samples_per_gpu=samples_per_gpu),
        persistent_workers=train and workers_per_gpu > 0,
        worker_init_fn=_quiet_worker,
        drop_last=False,
    )


def build_dataset(cfg: dict[str, Any] | Sequence[dict[str, Any]]) -> Dataset:
    """Build a dataset, or wrappers around datasets.

    Args:
        cfg: of one dataset; a list of them, or one whose ``ann_file`` is a list, are joined; ``ConcatDataset``,
            ``RepeatDataset``, ``ClassBalancedDataset`` and ``CBGSDataset`` are taken as mmdet3d takes them.
    """
    if isinstance(cfg, (list, tuple)):
        return JoinedDataset([build_dataset(item) for item in cfg])
    kind, files = cfg.get('type'), cfg.get('ann_file')
    if kind == 'ConcatDataset':
        return JoinedDataset([build_dataset(item) for item in cfg['datasets']])
    if isinstance(files, (list, tuple)):
        return JoinedDataset([build_dataset({**cfg, 'ann_file': file}) for file in files])
    if kind == 'RepeatDataset':
        return RepeatDataset(build_dataset(cfg['dataset']), cfg['times'])
    if kind == 'ClassBalancedDataset':
        return keep_seeds(ClassBalancedDataset(build_dataset(cfg['dataset']), cfg['oversample_thr']))
    if kind == 'CBGSDataset':
        return keep_seeds(BalancedDataset(build_dataset(cfg['dataset'])))
    return mmdet3d_build_dataset(cfg)


def _quiet_worker(_: int) -> None:
    """OpenCV's own threads would compete with the workers for the cores."""
    import cv2

    cv2.setNumThreads(0)


def require_files(dataset: dict[str, Any]) -> None:
    """Say clearly what is missing before a dataset is built.

    Raises:
        UserError: the info file of a dataset config is not there.
    """
    for inner in innermost_datasets(dataset):
        files = inner.get('ann_file')
        for info in files if isinstance(files, (list, tuple)) else [files]:
            if not isinstance(info, str):
                continue
            if any(path.is_file() for path in (Path(info), Path(inner.get('data_root') or '.') / info)):
                continue
            raise UserError(
                f'there is no info file {info}: make it with "{_creation(inner)}", or point --data-root at a '
                'folder that has it'
            )


def _creation(dataset: dict[str, Any]) -> str:
    """The command that makes the info file of a dataset config."""
    from mmdet.datasets import DATASETS

    kind, root = DATASETS.get(dataset.get('type')), dataset.get('data_root') or 'DIR'
    if hasattr(kind, 'MADE_BY'):
        return kind.MADE_BY.format(root=shlex.quote(root))
    return create_command(getattr(kind, 'CREATE_OPTIONS', 'nuscenes --version VERSION'), root)

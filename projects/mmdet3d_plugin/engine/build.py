"""Build datasets and their loaders from configs."""

import copy
from collections.abc import Sequence

from mmcv import Config
from torch.utils.data import DataLoader, Dataset

from projects.mmdet3d_plugin.common.config import innermost_datasets
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.datasets.builder import build_dataloader, require_files
from projects.mmdet3d_plugin.engine.launch import Launch


def build_split(cfg: Config, split: str, test_mode: bool) -> Dataset:
    """Build the dataset of ``cfg.data.<split>`` after a look at its files."""
    from mmdet3d.datasets import build_dataset

    if cfg.get('data', {}).get(split) is None:
        raise UserError(f'the config has no data.{split}')
    settings = copy.deepcopy(cfg.data[split])
    require_files(settings)
    if test_mode:
        for inner in innermost_datasets(settings):
            inner['test_mode'] = True
    return build_dataset(settings)


def build_loader(cfg: Config, dataset: Dataset, train: bool, launch: Launch, seed: int = 0) -> DataLoader:
    """Make this process's data loader.

    Args:
        cfg: the whole config; ``data.samples_per_gpu`` counts in training, testing takes one sample at a time
            because a temporal detector needs them in order.
        dataset: of the split.
        train: shuffled, or whole scenes in order.
        launch: the place of this process.
        seed: of the order and of all augmentation.
    """
    return build_dataloader(
        dataset,
        samples_per_gpu=cfg.data.get('samples_per_gpu', 1) if train else 1,
        workers_per_gpu=cfg.data.get('workers_per_gpu', 0),
        train=train,
        seed=seed,
        rank=launch.rank,
        world_size=launch.world_size,
    )


def classes_of(dataset: Dataset) -> list[str] | None:
    """Class names of a dataset in label order, None when it does not say."""
    classes: Sequence[str] | None = getattr(dataset, 'CLASSES', None)
    return None if classes is None else list(classes)

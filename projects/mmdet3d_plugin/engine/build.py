"""Build datasets and their loaders from configs."""

import copy
from collections.abc import Sequence

from mmcv import Config
from torch import nn
from torch.utils.data import DataLoader, Dataset

from projects.mmdet3d_plugin.common.blame import blamed_on
from projects.mmdet3d_plugin.common.config import innermost_datasets
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.datasets.builder import build_dataloader, build_dataset, require_files
from projects.mmdet3d_plugin.datasets.dataset_wrappers import inner_attribute
from projects.mmdet3d_plugin.engine.launch import Launch


def build_split(cfg: Config, split: str, test_mode: bool) -> Dataset:
    """Build the dataset of ``cfg.data.<split>`` after a look at its files."""
    if cfg.get('data', {}).get(split) is None:
        raise UserError(f'the config has no data.{split}')
    settings = copy.deepcopy(cfg.data[split])
    require_files(settings)
    if test_mode:
        for inner in innermost_datasets(settings):
            inner['test_mode'] = True
    with blamed_on(f'data.{split}', settings):
        return build_dataset(settings)


def require_evaluation(dataset: Dataset, split: str, evaluator: str | None = None) -> None:
    """Look, before training or inference begins, whether a dataset can be evaluated.

    A dataset may offer ``check_evaluation()`` for it, which raises UserError where something that ``evaluate`` reads
    is not there (tables, labels).

    Args:
        dataset: built for testing.
        split: its key in ``cfg.data``, for messages.
        evaluator: one of the dataset's ``EVALUATORS``, None for its own choice.

    Raises:
        UserError: names what is missing.
    """
    if len(dataset) == 0:
        raise UserError(
            f'data.{split} has no samples, so that nothing could be evaluated: is it the right info file?'
        )
    if not hasattr(dataset, 'evaluate'):
        inner = 'name the dataset in it, ' if hasattr(dataset, 'dataset') else ''
        raise UserError(
            f'data.{split}: {type(dataset).__name__} cannot evaluate: {inner}leave --eval out, or say --no-validate'
        )
    choice = getattr(dataset, 'EVALUATORS', ())
    if evaluator is not None and evaluator not in choice:
        known = f'; it has {" and ".join(choice)}' if choice else ', and no choice of them'
        raise UserError(f'data.{split}: {type(dataset).__name__} has no evaluator {evaluator!r}{known}')
    if hasattr(dataset, 'check_evaluation'):
        dataset.check_evaluation()


def require_cameras(model: nn.Module, dataset: Dataset) -> None:
    """Refuse a model made for another number of cameras than the data have, before the first step.

    Args:
        model: a detector, a distiller, or an exported graph; modules with ``num_cams`` say what they were made for.
        dataset: one that says its ``cameras``, or any other, which is not looked at.

    Raises:
        UserError: the numbers differ.
    """
    cameras = inner_attribute(dataset, 'cameras')
    if cameras is None or not len(dataset):  # whoever needs samples says that there are none
        return
    for name, module in model.named_modules():
        wanted = getattr(module, 'num_cams', None)
        if isinstance(wanted, int) and wanted != len(cameras):
            names = f' ({", ".join(cameras)})' if cameras else ''
            part = f'set num_cams={len(cameras)} in its {type(module).__name__} ({name})'
            mend = f'{part if name else "train and export one for these"}, or ' if cameras else ''
            raise UserError(
                f'the data have {len(cameras)} cameras{names}, but the model was made for {wanted}: {mend}choose other data'
            )


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

"""Datasets made of datasets: joined, repeated and balanced, without losing the seeds of their samples."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.datasets import ConcatDataset
from mmdet3d.datasets.dataset_wrappers import CBGSDataset
from torch.utils.data import Dataset

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.logs import get_logger
from projects.mmdet3d_plugin.common.rng import drawn_from
from projects.mmdet3d_plugin.datasets.samplers import SeededIndex


def inner_attribute(dataset: Dataset, name: str, default: Any = None) -> Any:
    """What a dataset says of itself, or the one that wrappers of other projects hide.

    Args:
        dataset: with any number of wrappers around it.
        name: of the attribute.
        default: where nobody has it.
    """
    while not hasattr(dataset, name) and hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    return getattr(dataset, name, default)


class JoinedDataset(ConcatDataset):
    """Datasets one after the other, such as train and val, of the same classes and cameras.

    It answers what its parts answer (``pc_range``, ``get_frame``); in testing every part is evaluated by itself, its
    metrics named ``0/NDS``, ``1/NDS`` and so on, its files in a folder of that number.

    Args:
        datasets: at least one.

    Raises:
        UserError: classes or cameras differ.
    """

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        if not datasets:
            raise UserError('a list of datasets is empty: name at least one')
        super().__init__(datasets)
        for name in ('CLASSES', 'cameras'):
            values = [tuple(inner_attribute(dataset, name, ())) for dataset in datasets if len(dataset)]
            if len(set(values)) > 1:
                raise UserError(
                    f'joined datasets differ in their {name.lower()}: {" and ".join(map(str, dict.fromkeys(values)))}'
                )

    @property
    def scene_tokens(self) -> list[str]:
        """Scene of every sample; a scene of two parts is two scenes."""
        return [f'{i}/{token}' for i, part in enumerate(self.datasets) for token in part.scene_tokens]

    def __getattr__(self, name: str) -> Any:
        if name.startswith('_') or name in ('datasets', 'check_evaluation', 'metric_names', 'format_results'):
            raise AttributeError(name)
        return getattr(self.datasets[0], name)

    def get_frame(self, index: int) -> dict[str, Any]:
        """What there is to draw of a sample."""
        part = int(np.searchsorted(self.cumulative_sizes, index, side='right'))
        first = self.cumulative_sizes[part] - len(self.datasets[part])
        return self.datasets[part].get_frame(index - first)

    def check_evaluation(self) -> None:
        """As the parts do."""
        for part in self.datasets:
            part.check_evaluation()

    def metric_names(self) -> list[str]:
        """Names that :meth:`evaluate` gives."""
        return [
            f'{i}/{name}'
            for i, part in enumerate(self.datasets)
            for name in getattr(part, 'metric_names', list)()
        ]

    def evaluate(
        self, results: Sequence[dict[str, Any]], out_dir: str | Path | None = None, **kwargs: Any
    ) -> dict[str, float]:
        """Metrics of every part, see the class."""
        metrics: dict[str, float] = {}
        for i, (part, own) in enumerate(self._shares(results)):
            folder = None if out_dir is None else str(Path(out_dir) / str(i))
            metrics |= {f'{i}/{k}': v for k, v in part.evaluate(own, out_dir=folder, **kwargs).items()}
        return metrics

    def format_results(self, results: Sequence[dict[str, Any]], out_dir: str | Path) -> Path:
        """What the server of every part takes, in a folder of its own; returns ``out_dir``."""
        for i, (part, own) in enumerate(self._shares(results)):
            part.format_results(own, Path(out_dir) / str(i))
        return Path(out_dir)

    def _shares(self, results: Sequence[Any]) -> Iterator[tuple[Dataset, Sequence[Any]]]:
        """Every part with its own results."""
        if len(results) != len(self):
            raise UserError(
                f'{len(results)} predictions for {len(self)} samples: evaluation needs one per sample'
            )
        for part, end in zip(self.datasets, self.cumulative_sizes, strict=True):
            yield part, results[end - len(part) : end]


class BalancedDataset(CBGSDataset):
    """mmdet3d's ``CBGSDataset``: frames drawn so that all classes are met alike (class-balanced grouping and sampling).

    What is drawn follows from the dataset alone, on every process and at every resume. Classes that no frame has are
    left out with a warning, where upstream divides by zero.

    Args:
        dataset: any with ``get_cat_ids``.
    """

    def _get_sample_indices(self) -> list[int]:
        """Indices into the dataset, one class after the other."""
        by_class: dict[int, list[int]] = {label: [] for label in self.cat2id.values()}
        for index in range(len(self.dataset)):
            for label in self.dataset.get_cat_ids(index):
                by_class[label].append(index)
        absent = [name for name, label in self.cat2id.items() if not by_class[label]]
        if len(absent) == len(self.CLASSES):
            raise UserError(f'CBGSDataset: no sample has an object of {", ".join(self.CLASSES)}')
        if absent:
            get_logger().warning('CBGSDataset: no sample has an object of %s', ', '.join(absent))
        total = sum(map(len, by_class.values()))
        with drawn_from(0):
            return [
                int(index)
                for frames in by_class.values()
                if frames
                for index in np.random.choice(frames, int(total / len(self.CLASSES)))
            ]


class SeededIndices(list):
    """Indices into a dataset; those that are looked up by a :class:`SeededIndex` keep its seed."""

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return SeededIndex(found, place.seed) if isinstance(place, SeededIndex) else found


def keep_seeds(dataset: Dataset) -> Dataset:
    """Let mmdet's and mmdet3d's balancing wrappers hand on the seeds of their samples; returns the dataset."""
    for name in ('repeat_indices', 'sample_indices'):
        if hasattr(dataset, name):
            setattr(dataset, name, SeededIndices(getattr(dataset, name)))
    return dataset

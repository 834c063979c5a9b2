"""What a frozen teacher computed from batches, kept on disk: it is the same in every run."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.digest import digest_of
from projects.mmdet3d_plugin.common.files import write_file
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.taps import Tap


class ObservationCache:
    """Features and predictions of whole batches, found again by what the batch shows and by the teacher's weights.

    Runs of several recipes with one seed see the same batches, so that the teacher runs in the first only. Random
    changes to the images make every batch a new one, and the folder grows without use.

    Args:
        folder: where one file per batch lies.
        teacher: whose weights count.
        settings: of the teacher, which tell detectors of the same weights apart.
    """

    def __init__(
        self, folder: str | Path, teacher: nn.Module, settings: Mapping[str, Any] | None = None
    ) -> None:
        self.folder = Path(folder)
        self._teacher = digest_of([teacher.state_dict(), settings or {}])

    def path(self, batch: Mapping[str, Any], taps: Iterable[Tap]) -> Path:
        """Where what was seen of a batch would lie; ground truth does not count, nor does the order of the taps."""
        shown = {key: value for key, value in batch.items() if not key.startswith('gt_')}
        listened = sorted({tap.path for tap in taps})
        return self.folder / f'{digest_of([self._teacher, listened, shown])}.pth'

    def read(self, path: Path, device: torch.device) -> tuple[dict[str, Any], Any] | None:
        """Features and predictions; None when they were not kept, or a crash of the machine damaged the file."""
        try:
            features, predictions = torch.load(path, map_location=device, weights_only=True)
        except Exception:  # damaged bytes raise errors of every kind
            return None
        return (features, predictions) if isinstance(features, dict) else None

    def write(self, path: Path, features: dict[str, Any], predictions: Any) -> None:
        """Keep what was seen of a batch.

        Raises:
            DistillError: it is not made of tensors alone, such as sparse voxel features.
        """
        if not _is_plain(features) or not _is_plain(predictions):
            raise DistillError(
                "the teacher's cache_dir is for hosts whose features are plain tensors; leave it out here"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        write_file(path, lambda file: torch.save([features, predictions], file), sync=False)


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, Tensor | str | int | float)

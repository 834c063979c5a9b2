"""Results of many samples as few arrays, so that processes send each other arrays and not thousands of objects."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmdet3d.core.bbox.structures import BaseInstance3DBoxes
from torch import Tensor


@dataclass(frozen=True)
class _Slot:
    """What stood in a result where numbers are put back: an array, or 3D boxes of a class, (n, box_dim)."""

    boxes: type[BaseInstance3DBoxes] | None = None
    with_yaw: bool = True


@dataclass(frozen=True)
class PackedResults:
    """Results of detectors, dicts mostly, taken apart into their structures and their numbers.

    Attributes:
        structures: of each result, with slots in place of arrays and boxes.
        dtypes: of every array of all results, in order.
        shapes: of every array.
        numbers: those of all arrays of a dtype, (total,).
    """

    structures: list[Any]
    dtypes: list[torch.dtype]
    shapes: list[tuple[int, ...]]
    numbers: dict[torch.dtype, Tensor]

    @classmethod
    def pack(cls, results: Sequence[Any]) -> 'PackedResults':
        """Take results on the CPU apart."""
        structures: list[Any] = []
        tensors: list[Tensor] = []
        for result in results:
            structures.append(_take_apart(result, tensors))
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            by_dtype.setdefault(tensor.dtype, []).append(tensor.reshape(-1))
        numbers = {dtype: torch.cat(parts) for dtype, parts in by_dtype.items()}
        return cls(structures, [t.dtype for t in tensors], [tuple(t.shape) for t in tensors], numbers)

    def unpack(self) -> list[Any]:
        """The results, each with numbers of its own: a pickle of a view would hold what it is a view of."""
        tensors = self._tensors()
        return [_put_together(structure, tensors) for structure in self.structures]

    def _tensors(self) -> Iterator[Tensor]:
        position = dict.fromkeys(self.numbers, 0)
        for dtype, shape in zip(self.dtypes, self.shapes, strict=True):
            size = torch.Size(shape).numel()
            yield self.numbers[dtype][position[dtype] : position[dtype] + size].view(shape).clone()
            position[dtype] += size


def _take_apart(value: Any, tensors: list[Tensor]) -> Any:
    """The structure of a value, whose arrays are appended to a list."""
    if isinstance(value, dict):
        return {key: _take_apart(item, tensors) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_take_apart(item, tensors) for item in value)
    if isinstance(value, BaseInstance3DBoxes):
        tensors.append(value.tensor)
        return _Slot(type(value), value.with_yaw)
    if isinstance(value, Tensor):
        tensors.append(value)
        return _Slot()
    return value


def _put_together(structure: Any, tensors: Iterator[Tensor]) -> Any:
    """What :func:`_take_apart` took apart."""
    if isinstance(structure, dict):
        return {key: _put_together(item, tensors) for key, item in structure.items()}
    if type(structure) in (list, tuple):
        return type(structure)(_put_together(item, tensors) for item in structure)
    if not isinstance(structure, _Slot):
        return structure
    tensor = next(tensors)
    if structure.boxes is None:
        return tensor
    return structure.boxes(tensor, box_dim=tensor.shape[-1], with_yaw=structure.with_yaw)

"""An accelerator that is not there: tensors that say they lie on it, and refuse to meet those of the CPU.

What they hold is computed on the CPU, so that a step or a detection on the pretended device shows, without a GPU, every place
where code mixes devices. Kernels that exist for CUDA only are not tried: the device's name is torch's ``lazy``, since tensors of
CUDA ask for a driver.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from mmcv import _ext
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_iter, tree_map_only

DEVICE = torch.device('lazy', 0)
MOVES = ('aten::copy_', 'aten::_to_copy')
ON_HOST = ('hard_voxelize_forward', 'dynamic_voxelize_forward')
"""Functions of mmcv that read sizes and ranges from tensors of the CPU."""
INDEXES = (
    'aten::index',
    'aten::index_put',
    'aten::index_put_',
    'aten::_index_put_impl_',
    'aten::_unsafe_index',
)
"""Their indices may lie on the CPU, as on CUDA."""


class TwoDevicesError(RuntimeError):
    """An operator was given tensors of the CPU and of the pretended device."""


class Elsewhere(Tensor):
    """A tensor on the pretended device."""

    @staticmethod
    def __new__(cls: type['Elsewhere'], held: Tensor) -> 'Elsewhere':
        return Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            requires_grad=held.requires_grad,
            device=DEVICE,
        )

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def __repr__(self) -> str:
        return f'Elsewhere({self.held})'

    def tolist(self) -> Any:
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _run(func, args, kwargs or {})


class _Pretending(TorchDispatchMode):
    """Makes tensors that are asked for on the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: tuple, kwargs: Mapping[str, Any]) -> Any:
    """One operator: computed on the CPU, its results where they would be."""
    name = func._schema.name
    there = _require_one_device(name, args, kwargs)
    held, options = tree_map_only(Elsewhere, lambda x: x.held, (args, dict(kwargs)))
    if (device := kwargs.get('device')) is not None:
        options['device'] = 'cpu'
    ends = there if device is None else torch.device(device).type == DEVICE.type
    if name == 'aten::copy_':
        ends = isinstance(args[0], Elsewhere)
    out = func(*held, **options)
    if not ends:
        return out
    out = tree_map_only(Tensor, lambda x: x if isinstance(x, Elsewhere) else Elsewhere(x), out)
    return return_and_correct_aliasing(func, args, kwargs, out) if there else out


def _require_one_device(name: str, *arguments: Any) -> bool:
    """Whether an operator is given tensors of the device; numbers of the CPU (no axes) may go along."""
    tensors = [x for x in tree_iter(arguments) if isinstance(x, Tensor)]
    there = [x for x in tensors if isinstance(x, Elsewhere)]
    here = [tuple(x.shape) for x in tensors if x.dim() and not isinstance(x, Elsewhere)]
    if not there or not here or name in MOVES + ON_HOST:
        return bool(there)
    if name in INDEXES and isinstance(tensors[0], Elsewhere):
        return True
    raise TwoDevicesError(f'{name} was given tensors on two devices, those on the CPU are {here}')


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of mmcv's compiled module, which knows nothing of tensors that only pretend."""

    def call(*args: Any, **kwargs: Any) -> Any:
        there = _require_one_device(function.__name__, args, kwargs)
        held = tree_map_only(Elsewhere, lambda x: x.held, (args, kwargs))
        out = function(*held[0], **held[1])
        return tree_map_only(Tensor, Elsewhere, out) if there else out

    return call


def _known_to_torch() -> dict[str, Callable[..., Any]]:
    """Functions of torch that know no such device in their own code: to them it is the CPU."""

    def is_autocast_enabled(device: str = 'cuda', of: Callable = torch.is_autocast_enabled) -> bool:
        return of('cpu' if device == DEVICE.type else device)

    def autocast(device: str, *args: Any, of: Callable = torch.autocast, **kwargs: Any) -> Any:
        return of('cpu' if device == DEVICE.type else device, *args, **kwargs)

    def tensor(data: Any, *args: Any, of: Callable = torch.tensor, **kwargs: Any) -> Tensor:
        numbers = data if isinstance(data, Tensor) else tree_map_only(Elsewhere, lambda x: x.held, data)
        return of(numbers, *args, **kwargs)

    return dict(is_autocast_enabled=is_autocast_enabled, autocast=autocast, tensor=tensor)


def _functions(module: ModuleType) -> dict[str, Callable[..., Any]]:
    return {name: value for name, value in vars(module).items() if callable(value) and name[0] != '_'}


@contextmanager
def pretended_device() -> Iterator[torch.device]:
    """Within it tensors may be sent to the device that it yields."""
    compiled = {name: _compiled(function) for name, function in _functions(_ext).items()}
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with (
            mock.patch.multiple(_ext, **compiled),
            mock.patch.multiple(torch, **_known_to_torch()),
            torch.autograd.set_multithreading_enabled(False),
            _Pretending(),
        ):
            yield DEVICE
    finally:
        torch._C._set_only_lift_cpu_tensors(before)

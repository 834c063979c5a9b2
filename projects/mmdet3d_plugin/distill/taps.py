"""Taps: record what named modules take in or return during one forward pass."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass, replace
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from projects.mmdet3d_plugin.distill.bev_grid import BEVGrid
from projects.mmdet3d_plugin.distill.registry import DistillError, nearest

_BRACES = re.compile(r'\{([^{}]*)\}')
_INPUT, _CALL = ':input', ':call'


class Call(NamedTuple):
    """One call of a module: its positional arguments as they are afterwards, and what it returned."""

    args: tuple[Any, ...]
    output: Any


def _as_is(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Tap:
    """One place of a host that a term reads.

    Args:
        path: dotted module path, such as ``'img_neck.fpn_convs.0.conv'``; its output is meant, or with the
            suffix ``':input'`` its first positional argument, with ``':call'`` a :class:`Call`.
        convert: turns what was recorded into the documented shape, for example (B, H*W, C) -> (B, C, H, W).
        channels: C of what ``convert`` returns, where it is known before the first forward pass.
        size: (H, W) of what ``convert`` returns, where it is known before the first forward pass.
        clone: keep a copy, for a tensor that the host edits in place later.
        grid: where a map seen from above lies, what ``convert`` returns.
        level: which of several maps at one path this is, counted from 0.
    """

    path: str
    convert: Callable[[Any], Any] = _as_is
    channels: int | None = None
    size: tuple[int, int] | None = None
    clone: bool = False
    grid: BEVGrid | None = None
    level: int = 0


def expand_braces(pattern: str) -> list[str]:
    """Expand ``'convs.{0..2}.{a,b}'`` to the paths it stands for, leftmost brace varying slowest."""
    found = _BRACES.search(pattern)
    if found is None:
        return [pattern]
    body = found.group(1)
    span = re.fullmatch(r'(\d+)\.\.(\d+)', body)
    choices = [str(i) for i in range(int(span[1]), int(span[2]) + 1)] if span else body.split(',')
    if not choices or '' in choices:
        raise DistillError(f"'{{{body}}}' in the path {pattern!r} is empty; write {{0..3}} or {{a,b}}")
    head, tail = pattern[: found.start()], pattern[found.end() :]
    return [path for choice in choices for path in expand_braces(head + choice.strip() + tail)]


def find_module(model: nn.Module, path: str) -> nn.Module:
    """The module at a dotted path; a wrong path is an error that names the nearest five and how many there are."""
    modules = {name: module for name, module in model.named_modules() if name}
    plain = path.removesuffix(_INPUT).removesuffix(_CALL)
    if plain not in modules:
        # Hosts have hundreds of modules: whatever is nearest helps more than the first of a list.
        close = nearest(plain, modules, count=5, cutoff=0.0)
        host = type(model).__name__
        raise DistillError(f'{host} has no module {plain!r} among its {len(modules)}; {close}')
    return modules[plain]


class Recorder:
    """Record what named modules return inside a ``with`` block.

    The hooks exist only inside the block and the tensors only until :meth:`pop`; nothing is stored on the model.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU())
        >>> with Recorder(net, [Tap('0')]) as recorder:
        ...     _ = net(torch.zeros(1, 3, 4, 4))
        >>> recorder.pop()['0'].shape
        torch.Size([1, 8, 4, 4])
    """

    def __init__(self, model: nn.Module, taps: Iterable[Tap]) -> None:
        self._model = model
        self._clone: dict[str, bool] = {}
        for tap in taps:
            self._clone[tap.path] = self._clone.get(tap.path, False) or tap.clone
        self._modules = {path: find_module(model, path) for path in self._clone}
        self._handles: list[RemovableHandle] = []
        self._records: dict[str, list[Any]] = {}
        self._versions: dict[str, list[int]] = {}

    def __enter__(self) -> 'Recorder':
        self._records = {path: [] for path in self._modules}
        self._handles = [self._hook(path, module) for path, module in self._modules.items()]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        if error is not None:
            self._records = {}

    def pop(self) -> dict[str, Any]:
        """Hand over what was recorded, by path, and forget it.

        Raises:
            DistillError: when a module never ran, ran more than once, or its output was edited in place.
        """
        records, self._records = self._records, {}
        host = type(self._model).__name__
        for path, values in records.items():
            if not values:
                raise DistillError(
                    f'the tap {path!r} of {host} never fired: the forward pass does not run it'
                )
            if len(values) > 1:
                raise DistillError(
                    f'the tap {path!r} of {host} fired {len(values)} times in one forward pass; tap a module that '
                    'runs once, or let the adapter run the earlier frames outside the taps'
                )
            if _versions(values[0]) != self._versions[path]:
                raise DistillError(
                    f'the tensor tapped at {path!r} of {host} was edited in place after it was recorded; '
                    'tap the module that edits it, or set clone=True on the term'
                )
        return {path: map_tensors(_full_precision, values[0]) for path, values in records.items()}

    def _hook(self, path: str, module: nn.Module) -> RemovableHandle:
        if path.endswith(_INPUT):
            return module.register_forward_pre_hook(lambda _, args: self._keep(path, _first(path, args)))
        if path.endswith(_CALL):
            return module.register_forward_hook(lambda _, args, output: self._keep(path, Call(args, output)))
        return module.register_forward_hook(lambda _, __, output: self._keep(path, output))

    def _keep(self, path: str, value: Any) -> None:
        value = map_tensors(torch.clone, value) if self._clone[path] else value
        self._records[path].append(value)
        self._versions[path] = _versions(value)


def _first(path: str, args: tuple[Any, ...]) -> Any:
    if not args:
        raise DistillError(f'{path!r} cannot be recorded: the module is called with keyword arguments only')
    return args[0]


def map_tensors(fn: Callable[[Tensor], Any], value: Any) -> Any:
    """Apply ``fn`` to every tensor, such as (N, C, H, W), of a nested value of lists, dicts and dataclasses."""
    if isinstance(value, Tensor):
        return fn(value)
    if isinstance(value, dict):
        return {key: map_tensors(fn, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        mapped = [map_tensors(fn, item) for item in value]
        if hasattr(value, '_fields'):  # a NamedTuple
            return type(value)(*mapped)
        return tuple(mapped) if isinstance(value, tuple) else mapped
    if is_dataclass(value):
        return replace(
            value, **{part.name: map_tensors(fn, getattr(value, part.name)) for part in fields(value)}
        )
    return value


def stop_gradient(value: Any) -> Any:
    """The same tensors, such as (N, C, H, W), as constants, in a nested value of lists, dicts and dataclasses."""
    return map_tensors(Tensor.detach, value)


def _full_precision(tensor: Tensor) -> Tensor:
    """Terms compute in float32, unless the whole step is under autocast: a host may run parts of itself in less."""
    half = tensor.dtype in (torch.bfloat16, torch.float16)
    return tensor.float() if half and not torch.is_autocast_enabled(tensor.device.type) else tensor


def tensors_of(value: Any) -> list[Tensor]:
    """All tensors, of any shape such as (B, C, H, W), in a nested value of tuples, lists, dicts and dataclasses."""
    found: list[Tensor] = []
    map_tensors(found.append, value)
    return found


def _versions(value: Any) -> list[int]:
    """Edit counters of what is recorded; an in-place operation raises them."""
    return [tensor._version for tensor in tensors_of(value)]

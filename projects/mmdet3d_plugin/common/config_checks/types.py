"""What a config may name: types in the registries of mmcv, mmdet, mmdet3d and ours, and arguments of constructors."""

import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from mmcv.utils import Registry
from torch import nn

from projects.mmdet3d_plugin.common.config_checks.numbers import is_number, is_whole
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.suggest import nearest

FRAMEWORKS = ('mmcv', 'mmdet', 'mmdet3d', 'mmseg', 'projects', 'tests')
FAMILIES = {
    'dataset': ('dataset',),
    'transform': ('pipeline',),
    'object sampler': ('Object sampler',),
    'hook': ('hook',),
    'optimizer': ('optimizer',),
    'optimizer constructor': ('optimizer builder',),
    'runner': ('runner',),
    'part of a recipe': (
        'connector', 'distillation loss', 'distillation head', 'region', 'target transform', 'teacher', 'initializer',
    ),
}  # fmt: skip
"""What a part of a config names -> names of the registries that hold it; models may come from any other registry."""
_NOT_MODELS = ('runner builder', 'module wrapper', 'host adapter', 'config check', 'export adapter')
_OF_BUILDERS = {
    'norm layer': {'requires_grad'},
    'conv layer': {'fallback_on_stride'},
    'hook': {'priority'},
    'optimizer': {'constructor', 'paramwise_cfg'},
    'plugin layer': {'cfg', 'position', 'stages'},
}
"""Arguments that mmcv's builders take out of a config before the constructor sees it."""

Kind = type | Callable
_PLAIN: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    NoneType: ('None', lambda value: value is None),
    bool: ('True or False', lambda value: isinstance(value, bool)),
    int: ('a whole number', is_whole),
    float: ('a finite number', is_number),
    str: ('a text', lambda value: isinstance(value, str)),
}
"""What an annotation asks of a value in a config: in words, and as a test."""


def find_kinds(name: str, family: str) -> list[tuple[Kind, str]]:
    """All classes and functions of a name, each with the name of its registry.

    Args:
        name: as in ``type``; ``'mmdet.ResNet'`` finds ``ResNet``.
        family: a key of ``FAMILIES``, or 'model'.
    """
    short = name.rpartition('.')[2]
    return [(r.module_dict[short], r.name) for r in _registries(family) if short in r.module_dict]


def require_type(node: dict[str, Any], place: str, family: str) -> list[tuple[Kind, str]]:
    """The classes that a part of a config may mean; none for a ``type`` that is a class itself.

    Raises:
        UserError: there is no such type, or the part does not name one.
    """
    name = node.get('type')
    if name is None:
        raise UserError(f"{place} has no 'type': it must name a {family}")
    if not isinstance(name, str):
        if inspect.isclass(name) or inspect.isfunction(name):
            return []
        raise UserError(f'{place}.type is {name!r}: it must be the name of a {family}')
    kinds = find_kinds(name, family)
    if not kinds:
        known = {key for r in _registries(family) if r.scope != 'mmseg' for key in r.module_dict}
        raise UserError(f'{place}.type: there is no {family} {name!r}; {nearest(name, known)}')
    return kinds


def require_arguments(node: dict[str, Any], place: str, family: str) -> None:
    """Check type and argument names of one part of a config.

    Raises:
        UserError: an unknown type, an argument that its constructor does not take, one that is None but needed, or, of a
            class of ours, a value that its annotations do not allow.
    """
    kinds = require_type(node, place, family)
    for key, value in node.items():
        if value is None and kinds and all(_needs(kind, key) for kind, _ in kinds):
            raise UserError(f'{place}.{key} is None, but {node["type"]} needs it')
    if kinds and all(is_ours(kind) for kind, _ in kinds):
        require_values(kinds[0][0], {key: value for key, value in node.items() if key != 'type'}, f'{place}.')
    accepted = [accepted_arguments(kind) for kind, _ in kinds]
    if not accepted or None in accepted:  # at least one takes anything
        return
    accepted = [
        own | _OF_BUILDERS.get(registry, set()) for own, (_, registry) in zip(accepted, kinds, strict=True)
    ]
    for key in node:
        if key != 'type' and not any(key in names for names in accepted):
            known = set().union(*accepted)
            raise UserError(f'{place}: {node["type"]} takes no {key!r}; {nearest(key, known)}')


def is_ours(kind: Kind) -> bool:
    """Whether annotations of a class or function are to be relied on: upstream's say less than they take."""
    return kind.__module__.partition('.')[0] == __name__.partition('.')[0]


def _needs(kind: Kind, key: str) -> bool:
    """Whether an argument has no default and may not be None. Detectors of mmdet that only test have no ``train_cfg``."""
    if key in ('train_cfg', 'test_cfg', 'pretrained', 'init_cfg'):
        return False
    found = next((p[key] for p in map(_parameters, _constructors(kind)[0]) if key in p), None)
    return found is not None and found.default is found.empty and 'None' not in str(found.annotation)


@functools.cache
def accepted_arguments(kind: Kind) -> frozenset[str] | None:
    """Names of the arguments that a class or function takes, those that it passes to its base class included.

    Returns:
        The names; None when ``**kwargs`` go somewhere else, so that any name may be right.
    """
    functions, closed = _constructors(kind)
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = (name for f in functions for name, p in _parameters(f).items() if p.kind in named)
    return frozenset(names) if closed else None


@functools.cache
def _constructors(kind: Kind) -> tuple[list[Callable], bool]:
    """Functions that take the arguments of a class or function, and whether there are no others.

    They are the constructors from the class upwards, as long as each hands its ``**kwargs`` to the next one.
    """
    if not inspect.isclass(kind):
        return [kind], _rest(kind) is None
    found: list[Callable] = []
    for owner in kind.__mro__:
        if owner in (nn.Module, object):
            break
        if '__init__' in vars(owner):
            try:
                rest = _rest(owner.__init__)
            except (ValueError, TypeError):  # written in C
                return found, False
            found.append(owner.__init__)
            if rest is None:
                break
            if not _passed_to_base(owner, rest):
                return found, False
    return found, True


def _parameters(function: Callable) -> dict[str, inspect.Parameter]:
    """Parameters by name, ``self`` left out."""
    return {name: p for name, p in inspect.signature(function).parameters.items() if name != 'self'}


def _rest(function: Callable) -> str | None:
    """Name of ``**kwargs``, if there are any."""
    return next((name for name, p in _parameters(function).items() if p.kind is p.VAR_KEYWORD), None)


def _passed_to_base(owner: type, rest: str) -> bool:
    """Whether a constructor hands its ``**kwargs`` to the constructor of its base class and nowhere else."""
    try:
        source = inspect.getsource(owner.__init__)
    except (OSError, TypeError):
        return False
    uses = re.findall(rf'\b{rest}\b', source.split(':', 1)[1] if ':' in source else source)
    to_base = re.search(rf'\.__init__\((?:[^()]|\([^()]*\))*\*\*{rest}\b', source)
    return to_base is not None and len(uses) <= 2  # once in the signature, once here


def require_values(kind: Kind, values: Mapping[str, Any], place: str) -> None:
    """Compare values with the annotations of the arguments that they are meant for.

    Args:
        kind: a class of ours, or a function.
        values: by the name of the argument.
        place: what stands before the name in the message, such as ``'model.'``.

    Raises:
        UserError: a value is of another type, or no finite number.
    """
    for name, wanted in _annotations(kind).items():
        if name in values and not _fits(values[name], wanted):
            raise UserError(f'{place}{name} is {values[name]!r}: it must be {_in_words(wanted)}')


@functools.cache
def _annotations(kind: Kind) -> dict[str, Any]:
    """Annotations of the arguments of a class or function."""
    return {name: hint for f in reversed(_constructors(kind)[0]) for name, hint in get_type_hints(f).items()}


def _fits(value: Any, wanted: Any) -> bool:
    """Whether a value is what an annotation asks for, as far as it is one of plain values and lists and dicts of them."""
    origin, parts = get_origin(wanted) or wanted, get_args(wanted)
    if wanted in _PLAIN:
        return _PLAIN[wanted][1](value)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if not inspect.isclass(origin) or not issubclass(origin, Iterable):
        return True
    if issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(_fits(item, parts[-1]) for item in value.values() if parts)
    if not isinstance(value, Iterable) or isinstance(value, str | Mapping):
        return False
    if origin is tuple and parts and parts[-1] is not ...:
        return len(value) == len(parts) and all(map(_fits, value, parts))
    return all(_fits(item, parts[0]) for item in value if parts)


def _in_words(wanted: Any) -> str:
    """An annotation for a person who writes a config."""
    origin, parts = get_origin(wanted) or wanted, get_args(wanted)
    if wanted in _PLAIN:
        return _PLAIN[wanted][0]
    if origin in (Union, UnionType):
        return ' or '.join(map(_in_words, parts))
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return 'a dict'
    if origin is tuple and parts and parts[-1] is not ...:
        return f'{len(parts)} values: {", ".join(map(_in_words, parts))}'
    of = f', each {_in_words(parts[0])}' if parts and parts[0] in _PLAIN else ''
    return f'a list{of}'


@functools.cache
def _registries(family: str) -> tuple[Registry, ...]:
    """The registries of a family that any loaded module of the frameworks or ours holds."""
    found: dict[int, Registry] = {}
    for name, module in list(sys.modules.items()):
        if name.partition('.')[0] in FRAMEWORKS and module is not None:
            found.update({id(r): r for r in vars(module).values() if isinstance(r, Registry)})
    if family in FAMILIES:
        return tuple(r for r in found.values() if r.name in FAMILIES[family])
    others = {name for names in FAMILIES.values() for name in names}.union(_NOT_MODELS) - {'initializer'}
    return tuple(r for r in found.values() if r.name not in others)

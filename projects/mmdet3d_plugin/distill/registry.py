"""The registries of distillation parts, and the one way to build a part from a config."""

import inspect
from collections.abc import Mapping
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, get_args

from mmcv.utils import Registry

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.suggest import nearest

LOSSES = Registry('distillation loss')
CONNECTORS = Registry('connector')
REGIONS = Registry('region')
INITIALIZERS = Registry('initializer')
TARGETS = Registry('target transform')
TEACHERS = Registry('teacher')
HEADS = Registry('distillation head')
ADAPTERS = Registry('host adapter')


_SIMPLE = {bool: 'True or False', int: 'a whole number', float: 'a number', str: 'a text'}


class DistillError(UserError):
    """A recipe or a host that cannot work, told in one sentence with the mend."""


def build_part(registry: Registry, cfg: str | Mapping, where: str, **context: Any) -> Any:
    """Build one part of a recipe, with errors that say which part and how to mend it.

    Args:
        registry: where its type is looked up.
        cfg: ``dict(type=..., **arguments)``, or just the type; ``'resize_conv'`` also finds ``ResizeConv``.
        where: the part's place in the recipe, for messages, such as ``"the connector of term 'bev_l2'"``.
        context: values that the part may take if its signature names them and the config does not.
    """
    if not isinstance(cfg, str | Mapping):
        raise DistillError(f'{where} must be a dict with a type, or the type, got {cfg!r}')
    arguments = {'type': cfg} if isinstance(cfg, str) else dict(cfg)
    if 'type' not in arguments:
        raise DistillError(f"{where} has no 'type'; {nearest('', registry.module_dict)}")
    kind = find_type(registry, arguments.pop('type'), where)
    catch_all = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(kind).parameters
    accepted = {key: parameter for key, parameter in parameters.items() if parameter.kind not in catch_all}
    for key in arguments:
        if key not in accepted:
            raise DistillError(f'{where}: {kind.__name__} takes no {key!r}; {nearest(key, accepted)}')
    filled = {key: value for key, value in context.items() if key in accepted} | arguments
    for key, parameter in accepted.items():
        if parameter.default is parameter.empty and key not in filled:
            raise DistillError(f'{where}: {kind.__name__} needs {key!r}; give it in the config')
    for key, value in arguments.items():
        if wanted := _misfit(value, accepted[key].annotation):
            raise DistillError(f'{where}: {key} of {kind.__name__} is {value!r}: it must be {wanted}')
    try:
        return kind(**filled)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise DistillError(f'{where}: {kind.__name__}: {error}') from error


def _misfit(value: Any, annotation: Any) -> str | None:
    """What a value must be where its parameter is a number or a text and it is neither; None where it fits."""
    kinds = set(get_args(annotation)) if isinstance(annotation, UnionType) else {annotation}
    if not kinds <= set(_SIMPLE) | {NoneType} or isinstance(value, tuple(kinds - {int, float})):
        return None
    if kinds & {int, float} and isinstance(value, Real) and not isinstance(value, bool):
        fits = value == value and (float in kinds or isinstance(value, Integral) or float(value).is_integer())
        if fits:
            return None
    return ' or '.join(words for kind, words in _SIMPLE.items() if kind in kinds)


def find_type(registry: Registry, name: Any, where: str) -> type:
    """Look a type up by its name or its snake_case short form."""
    if inspect.isclass(name):
        return name
    exact = registry.module_dict.get(name)
    if exact is not None:
        return exact
    short = {key.lower(): kind for key, kind in registry.module_dict.items()}
    kind = short.get(str(name).replace('_', '').lower())
    if kind is None:
        raise DistillError(
            f'{where}: unknown {registry.name} {name!r}; {nearest(str(name), registry.module_dict)}'
        )
    return kind

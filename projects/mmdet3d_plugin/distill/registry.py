"""The registries of distillation parts, and the one way to build a part from a config."""

import inspect
from collections.abc import Mapping
from typing import Any

from mmcv.utils import Registry

from projects.mmdet3d_plugin.common.config_checks.numbers import BY_NAME, check_number
from projects.mmdet3d_plugin.common.config_checks.types import require_values
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
    if not isinstance(cfg, str | Mapping) and not inspect.isclass(cfg):
        raise DistillError(
            f'{where} is {cfg!r}: it must be the name of a {registry.name}, or a dict with a type'
        )
    arguments = dict(cfg) if isinstance(cfg, Mapping) else {'type': cfg}
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
    try:
        require_values(kind, filled, f'{where}: {kind.__name__}: ')
        for key in filled.keys() & BY_NAME.keys():
            check_number(f'{where}: {kind.__name__}: {key}', filled[key], BY_NAME[key])
    except UserError as error:
        raise DistillError(str(error)) from None
    try:
        return kind(**filled)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise DistillError(f'{where}: {kind.__name__}: {str(error).partition(chr(10))[0]}') from error


def find_type(registry: Registry, name: Any, where: str) -> type:
    """Look a type up by its name or its snake_case short form."""
    if inspect.isclass(name):
        return name
    exact = registry.module_dict.get(name) if isinstance(name, str) else None
    if exact is not None:
        return exact
    short = {key.lower(): kind for key, kind in registry.module_dict.items()}
    kind = short.get(str(name).replace('_', '').lower())
    if kind is None:
        raise DistillError(
            f'{where}: unknown {registry.name} {name!r}; {nearest(str(name), registry.module_dict)}'
        )
    return kind

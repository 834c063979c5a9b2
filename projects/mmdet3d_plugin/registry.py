"""Find and register everything the plugin offers, without a list that must be edited."""

import importlib
import pkgutil

ROOMS = ('hosts', 'distill', 'datasets', 'evaluation', 'engine')


def import_submodules(package_name: str) -> None:
    """Import every module below a package so that its ``register_module`` decorators run.

    A new loss, region or host is therefore one new file: nothing else has to name it.

    Args:
        package_name: dotted name of an already imported package, usually ``__name__``.
    """
    package = importlib.import_module(package_name)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f'{package_name}.{module.name}')


def register_all() -> None:
    """Import every room of the plugin; call it before building anything from a config."""
    for room in ROOMS:
        importlib.import_module(f'projects.mmdet3d_plugin.{room}')

"""Starts a tool: options first, then the modules that do the work."""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence


def launch(
    parse: Callable[[Sequence[str] | None], argparse.Namespace],
    module: str,
    package: str = 'projects.mmdet3d_plugin',
) -> None:
    """Read the command line, which ends here where it asks for help or is mistaken, and only then import the tool.

    Args:
        parse: reads the command line; must need nothing heavy.
        module: below ``package``; its ``main()`` does the work. A number that it returns is the exit status.
        package: of the module.
    """
    parse(None)
    status = importlib.import_module(f'{package}.{module}').main()
    sys.exit(status if isinstance(status, int) else None)  # benchmarks return their report

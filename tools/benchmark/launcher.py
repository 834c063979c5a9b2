"""Starts a benchmark: options first, then what it measures."""

import argparse
import importlib
from collections.abc import Callable, Sequence
from typing import Any


def launch(parse: Callable[[Sequence[str] | None], argparse.Namespace], module: str) -> None:
    """Read the command line, and only then import what is measured; a mistake and Ctrl-C end in one line.

    Whether the report can be written is known before minutes are measured.

    Args:
        parse: of :mod:`tools.benchmark.options`; it has ``--json``.
        module: below ``tools.benchmark.measure``; its ``main()`` does the work.
    """
    arguments = parse(None)
    cli = importlib.import_module('projects.mmdet3d_plugin.engine.cli')
    files = importlib.import_module('projects.mmdet3d_plugin.common.files')

    def work(arguments: argparse.Namespace) -> Any:
        if arguments.json:
            files.require_writable_file(arguments.json)
        return importlib.import_module(f'tools.benchmark.measure.{module}').main()

    cli.run(work, arguments)

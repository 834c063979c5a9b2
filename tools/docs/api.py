"""Lists of modules with what each is for, as their docstrings say."""

import ast
import os
from functools import partial
from pathlib import Path

from tools.docs.results import BLOCKS, table

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / 'projects' / 'mmdet3d_plugin'
GROUND = ('box_codec', 'compat', 'registry')
"""Modules that stand beside ``common/`` and are listed with it."""
PACKAGES = (
    'common',
    'command_line',
    'ops',
    'hosts',
    'evaluation',
    'datasets',
    'worlds',
    'visualization',
    'distill',
    'engine',
    'studies',
)
FOLDER = 'docs/api'


def first_line(path: Path) -> str:
    """First line of a module's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text())) or '').partition('\n')[0]


def modules_of(package: str) -> list[str]:
    """Dotted names below the plugin of a package's modules, sub-packages last."""
    files = [path for path in (PLUGIN / package).rglob('*.py') if path.name != '__init__.py']
    files.sort(key=lambda path: (len(path.parts), str(path)))
    names = ['.'.join(path.relative_to(PLUGIN).with_suffix('').parts) for path in files]
    return [*(GROUND if package == 'common' else ()), *names]


def module_list(package: str) -> str:
    """A package's modules as a Markdown list."""
    lines = []
    for name in modules_of(package):
        path = PLUGIN.joinpath(*name.split('.')).with_suffix('.py')
        lines.append(f'- [`{name}`]({os.path.relpath(path, ROOT / FOLDER)}): {first_line(path)}')
    return '\n'.join(lines)


def package_table() -> str:
    """All packages from the ground up, each with its page."""
    return table(
        ['package', 'what is in it'],
        [[f'[`{name}`]({name}.md)', first_line(PLUGIN / name / '__init__.py')] for name in PACKAGES],
    )


BLOCKS.update({f'api {name}': partial(module_list, name) for name in PACKAGES})
BLOCKS['api'] = package_table

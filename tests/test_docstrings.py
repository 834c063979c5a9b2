"""What docstrings say: examples that run, arguments that exist, shapes of tensors."""

import ast
import doctest
import functools
import importlib
import re
from pathlib import Path

import pytest

from projects.mmdet3d_plugin.common.rng import untouched_rng

ROOT = Path(__file__).resolve().parents[1]
FILES = [
    *sorted((ROOT / 'projects' / 'mmdet3d_plugin').rglob('*.py')),
    *sorted((ROOT / 'tools').rglob('*.py')),
]
WITH_EXAMPLES = [path for path in FILES if '>>>' in path.read_text()]
EXAMPLES = 60
SHAPED = 0.85
SHAPE = re.compile(
    r'\([A-Za-z0-9_*/+ -]+(?:, ?[A-Za-z0-9_*/+ -]+)+,?\)|\([A-Za-z0-9_]+,\)|\[[A-Z][A-Za-z0-9_*]*(?:, ?[A-Za-z0-9_*]+)+\]'
)
Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def name_of(path: Path) -> str:
    """Dotted name of a module."""
    return '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')


@functools.cache
def documented(path: Path) -> list[tuple[Documented, str]]:
    """Classes and functions of a file with their docstrings."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, Documented)]
    return [(node, text) for node in nodes if (text := ast.get_docstring(node))]


@pytest.mark.parametrize('path', WITH_EXAMPLES, ids=name_of)
def test_examples_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    module = importlib.import_module(name_of(path))
    with untouched_rng():
        result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
    assert result.attempted > 0


def test_there_are_examples_to_learn_from() -> None:
    assert sum('>>>' in text for path in FILES for _, text in documented(path)) >= EXAMPLES


def arguments_of(node: Documented) -> set[str]:
    """Names that the Args of a docstring may explain; of a class, its constructor's and its fields'."""
    names: set[str] = set()
    functions = [node] if not isinstance(node, ast.ClassDef) else []
    if isinstance(node, ast.ClassDef):
        functions = [item for item in node.body if getattr(item, 'name', '') == '__init__']
        names |= {item.target.id for item in node.body if isinstance(item, ast.AnnAssign)}
    for function in functions:
        given = function.args
        nodes = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        names |= {item.arg for item in nodes if item}
    return names


@pytest.mark.parametrize('folder', ['projects/mmdet3d_plugin', 'tools'])
def test_docstrings_explain_arguments_that_exist(folder: str) -> None:
    """A renamed argument is renamed in its docstring; ``a, b: ...`` may explain two at once."""
    wrong = []
    for path in (path for path in FILES if path.is_relative_to(ROOT / folder)):
        for node, text in documented(path):
            section = re.search(r'^Args:\n((?:(?: {4}.*)?\n?)*)', text, re.MULTILINE)
            known = arguments_of(node)
            if section is None or not known:
                continue
            for found in re.finditer(r'^ {4}([\w*]+(?:, [\w*]+)*):', section[1], re.MULTILINE):
                strange = {name.lstrip('*') for name in found[1].split(', ')} - known
                wrong += [f'{name_of(path)}.{node.name} has no argument {name!r}' for name in sorted(strange)]
    assert wrong == []


def test_docstrings_of_tensors_say_their_shapes() -> None:
    about_tensors = [
        text for path in FILES for _, text in documented(path) if re.search(r'\b[Tt]ensor', text)
    ]
    shaped = sum(bool(SHAPE.search(text)) for text in about_tensors)
    assert shaped >= SHAPED * len(about_tensors)

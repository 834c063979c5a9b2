"""The tree is clean by the rules in pyproject.toml."""

import ast
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize('arguments', [('check',), ('format', '--check')], ids=['lint', 'format'])
def test_ruff_is_content(arguments: tuple[str, ...]) -> None:
    """Ruff, the very version of the lock, finds nothing to complain about."""
    answer = subprocess.run(
        [sys.executable, '-m', 'ruff', *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert answer.returncode == 0, f'`make format` mends most of this:\n{answer.stdout}{answer.stderr}'


def test_ruff_judges_by_our_rules(tmp_path: Path) -> None:
    """The configuration is the one in force: a file that breaks it is refused, so a pass means something."""
    bad = tmp_path / 'bad.py'
    bad.write_text('def undocumented(untyped):\n    return untyped\n')
    command = [sys.executable, '-m', 'ruff', 'check', '--config', str(ROOT / 'pyproject.toml'), str(bad)]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 1
    for rule in ('ANN001', 'D103'):
        assert rule in answer.stdout


def test_pre_commit_runs_the_same_ruff() -> None:
    """Hooks use the environment's ruff: a version of their own would disagree with `make test` sooner or later."""
    config = yaml.safe_load((ROOT / '.pre-commit-config.yaml').read_text())
    hooks = {hook['id']: hook for repo in config['repos'] for hook in repo['hooks']}
    assert hooks['ruff-check']['entry'].startswith('.venv/bin/python -m ruff check')
    assert hooks['ruff-format']['entry'].startswith('.venv/bin/python -m ruff format')


def function_lengths() -> list[int]:
    """Lines of every function of the project, docstrings left out, configs (which are data) too."""
    lengths = []
    for path in [*ROOT.glob('projects/**/*.py'), *ROOT.glob('tools/**/*.py')]:
        if path.is_relative_to(ROOT / 'projects' / 'configs'):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                doc = ast.get_docstring(node, clean=False)
                lengths.append(node.end_lineno - node.lineno + 1 - (doc.count('\n') + 1 if doc else 0))
    return sorted(lengths)


def test_functions_stay_short() -> None:
    """Half of all functions fit into 15 lines, nine of ten into 50: the bar of CONTRIBUTING.md."""
    lengths = function_lengths()
    assert statistics.median(lengths) <= 15
    assert lengths[int(0.9 * (len(lengths) - 1))] <= 50

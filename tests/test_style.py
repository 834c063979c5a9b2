"""The tree is clean by the rules in pyproject.toml."""

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

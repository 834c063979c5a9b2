"""Benchmarks run as their first lines say, from the root and without path tricks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = sorted(
    path.name for path in (ROOT / 'tools' / 'benchmark').glob('*.py') if '__main__' in path.read_text()
)


@pytest.mark.parametrize('script', ['kd_losses.py'])
def test_a_script_finds_the_modules_that_benchmarks_share(script: str) -> None:
    assert script in SCRIPTS
    alone = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    done = subprocess.run(
        [sys.executable, f'tools/benchmark/{script}', '--help'],
        cwd=ROOT,
        env=alone,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert '--json' in done.stdout

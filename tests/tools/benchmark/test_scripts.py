"""Benchmarks run as their first lines say, from the root and without path tricks."""

import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.robustness.forked import run
from tools.benchmark import msda_calls, options
from tools.benchmark.measure import gather_maps, lift_splat, linear, msda, train_step_cpu, transformer

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = sorted(
    path.name for path in (ROOT / 'tools' / 'benchmark').glob('*.py') if '__main__' in path.read_text()
)
LOOK = """
import importlib.util, sys
sys.path[0] = 'tools/benchmark'  # as for a script of that folder
print(all(importlib.util.find_spec(name) for name in ('projects', 'tools.benchmark.timing')))
"""


def test_a_script_finds_the_modules_that_benchmarks_share() -> None:
    alone = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    done = subprocess.run(
        [sys.executable, '-c', LOOK], cwd=ROOT, env=alone, capture_output=True, text=True, check=False
    )
    assert done.stdout == 'True\n', done.stderr


@pytest.mark.parametrize('script', SCRIPTS)
def test_a_script_says_what_it_takes(script: str) -> None:
    def main(argv: Sequence[str]) -> None:
        sys.argv = [script, *argv]
        runpy.run_path(str(ROOT / 'tools' / 'benchmark' / script), run_name='__main__')

    ended = run(main, '--help')
    assert ended.status == 0, ended.text
    assert f'usage: {script}' in ended.text


def test_what_options_offer_is_what_there_is() -> None:
    """Names that stand in the help, since what they are of is heavy."""
    assert options.ATTENTION_MODELS == tuple(msda_calls.MODELS) == tuple(transformer.CONFIGS)
    assert options.ATTENTION_CALLS == msda_calls.CALLS
    assert tuple(msda.DTYPES) == options.DTYPES
    assert tuple(linear.SHAPES) == options.LAYERS
    assert tuple(gather_maps.MODELS) == options.LOOK_UP_MODELS
    assert tuple(lift_splat.SHAPES) == options.POOLING_SHAPES
    assert tuple(train_step_cpu.CONFIGS) == options.TRAINED

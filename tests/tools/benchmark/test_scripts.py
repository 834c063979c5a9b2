"""Benchmarks run as their first lines say, from the root and without path tricks."""

import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.robustness.forked import Ended, run
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


def run_script(script: str, *words: object) -> Ended:
    """Run a benchmark as from the command line."""

    def main(argv: Sequence[str]) -> None:
        sys.argv = [script, *argv]
        runpy.run_path(str(ROOT / 'tools' / 'benchmark' / script), run_name='__main__')

    return run(main, *words)


@pytest.mark.parametrize('script', SCRIPTS)
def test_a_script_says_what_it_takes(script: str) -> None:
    ended = run_script(script, '--help')
    assert ended.status == 0, ended.text
    assert f'usage: {script}' in ended.text


@pytest.mark.parametrize(
    ('script', 'words', 'said'),
    [
        ('kd_losses.py', ('--rounds', '0'), "argument --rounds: '0': a whole number of at least 1"),
        ('lift_splat.py', ('--json', ROOT), f'error: {ROOT} is a folder: name a file in it'),
        ('synthetic.py', ('--json', ROOT / 'README.md' / 'x'), 'error: '),
        ('distill_step.py', ('--recipe', 'no_such.py'), 'error: '),
        ('point_sets.py', ('--cloud', 'no_such.bin'), 'error: '),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_measured(
    script: str, words: Sequence[object], said: str
) -> None:
    ended = run_script(script, *words)
    assert ended.status == 2, ended.text
    assert said in ended.text
    assert 'Traceback' not in ended.text


@pytest.mark.parametrize(('word', 'status'), [('--help', 0), ('-h', 0), ('--hlep', 2)])
def test_the_script_for_gpus_says_what_it_takes(word: str, status: int) -> None:
    """It begins nothing: on a machine with a GPU it would take ten minutes."""
    command = ['bash', 'tools/benchmark/gpu.sh', word]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status
    assert (done.stderr if status else done.stdout).startswith('usage: tools/benchmark/gpu.sh')


def test_the_script_for_gpus_needs_one() -> None:
    """In one line, whatever torch is."""
    alone = dict(os.environ, CUDA_VISIBLE_DEVICES='', PYTHON=sys.executable)
    command = ['bash', 'tools/benchmark/gpu.sh']
    done = subprocess.run(
        command, cwd=ROOT, env=alone, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 2
    assert done.stderr == 'error: there is no GPU that torch sees\n'


def test_a_missing_runtime_is_said_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    monkeypatch.setitem(sys.modules, 'onnx', SimpleNamespace())
    ended = run_script('deploy.py')
    assert ended.errors == ['error: onnxruntime is not installed: pip install -r requirements/onnx.txt']


def test_what_options_offer_is_what_there_is() -> None:
    """Names that stand in the help, since what they are of is heavy."""
    assert options.ATTENTION_MODELS == tuple(msda_calls.MODELS) == tuple(transformer.CONFIGS)
    assert options.ATTENTION_CALLS == msda_calls.CALLS
    assert tuple(msda.DTYPES) == options.DTYPES
    assert tuple(linear.SHAPES) == options.LAYERS
    assert tuple(gather_maps.MODELS) == options.LOOK_UP_MODELS
    assert tuple(lift_splat.SHAPES) == options.POOLING_SHAPES
    assert tuple(train_step_cpu.CONFIGS) == options.TRAINED

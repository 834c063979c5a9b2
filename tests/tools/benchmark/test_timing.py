"""What benchmarks record about how they were run."""

import sys

import pytest

from tools.benchmark.timing import machine


def test_a_recorded_command_names_no_path_of_one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, 'argv', ['tools/benchmark/kd_gain.py', '--seeds', '0,1', '--out', '/data/me/gain']
    )
    assert machine('cpu')['command'] == 'python tools/benchmark/kd_gain.py --seeds 0,1 --out gain'

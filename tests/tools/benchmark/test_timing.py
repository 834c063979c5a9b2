"""What benchmarks record about how they were run, and what stands beside ours."""

import sys

import pytest
import torch

from projects.mmdet3d_plugin.ops.ms_deform_attn import ms_deform_attn_packed
from tools.benchmark.mmcv_attention import mmcv_serves, mmcvs_attention
from tools.benchmark.options import parse_msda
from tools.benchmark.timing import machine, start_report


def test_a_recorded_command_names_no_path_of_one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, 'argv', ['tools/benchmark/kd_gain.py', '--seeds', '0,1', '--out', '/data/me/gain']
    )
    assert machine('cpu')['command'] == 'python tools/benchmark/kd_gain.py --seeds 0,1 --out gain'


def test_without_a_gpu_nothing_is_measured_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(SystemExit, match='--device cuda: there is no GPU'):
        start_report(parse_msda(['--device', 'cuda']))


def test_attention_as_the_original_runs_it_gives_the_same() -> None:
    """Padded rows and mmcv's operator, which stand beside ours on a GPU; here mmcv's plain torch."""
    torch.manual_seed(0)
    value, shapes = torch.randn(2, 10, 2, 4), [(2, 3), (2, 2)]
    offsets, logits = torch.randn(1, 5, 2, 2, 2, 2), torch.randn(1, 5, 2, 4)
    pair_value, pair_query = torch.tensor([0, 0, 1]), torch.tensor([1, 4, 1])
    inputs = (value, shapes, offsets, logits, torch.rand(3, 1, 2), pair_value, pair_query)
    ours = ms_deform_attn_packed(*inputs)
    with mmcvs_attention():
        torch.testing.assert_close(ms_deform_attn_packed(*inputs), ours)
    assert mmcv_serves('cpu')

"""The protocol of the timing; never the times."""

import json
from pathlib import Path

import pytest
import torch

from projects.mmdet3d_plugin.studies.cost.latency import Stream, _summary, main

STUDENT = 'projects/configs/synthetic/bevformer_student.py'


def test_every_frame_after_the_first_has_a_history() -> None:
    stream = Stream(STUDENT, torch.device('cpu'))
    seen = []
    recall = type(stream.memory).recall

    def spy(memory: object, metas: list) -> tuple:
        bev, exists = recall(memory, metas)
        seen.append(bev is not None and bool(exists.all()))
        return bev, exists

    type(stream.memory).recall = spy
    try:
        times = [stream.step() for _ in range(3)]
    finally:
        type(stream.memory).recall = recall
    assert seen == [False, True, True]
    assert all(time > 0 for time in times)


@pytest.mark.parametrize('name', ['detr3d_student', 'bevdepth_near_student'])
def test_a_host_without_a_memory_is_timed_too(name: str) -> None:
    assert Stream(f'projects/configs/synthetic/{name}.py', torch.device('cpu')).step() > 0


def test_percentiles() -> None:
    result = _summary([value / 1000 for value in range(1, 12)])
    assert (result.median_ms, result.low_ms, result.high_ms, result.frames) == (6, 2, 10, 11)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / 'deep' / 'latency.json'
    main([STUDENT, STUDENT, '--frames', '1', '--warmup', '1', '--json', str(path), '--device', 'cpu'])
    content = json.loads(path.read_text())
    assert [model['frames'] for model in content['models']] == [1, 1]
    assert 'torch' in content['versions']
    assert 'bevformer_student' in capsys.readouterr().out

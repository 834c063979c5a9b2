"""What a run notes beside its checkpoints, and what becomes of a record that is damaged."""

import json
from pathlib import Path
from typing import Any

import pytest

from projects.mmdet3d_plugin.engine.run_record import RunRecord

BEST = dict(best_metric='NDS', best_score=0.4, best_epoch=2)


def _noted(folder: Path, **changes: Any) -> RunRecord:
    content = dict(saved=['epoch_1.pth', 'epoch_2.pth'], evaluated=[1, 2], best=BEST) | changes
    (folder / 'checkpoints.json').write_text(json.dumps(content))
    return RunRecord(folder)


def test_record_of_a_resumed_run_ends_at_its_checkpoint(tmp_path: Path) -> None:
    record = _noted(tmp_path)
    record.go_on_from(tmp_path / 'epoch_1.pth', 1)
    assert (record.saved, record.evaluated, record.best) == (['epoch_1.pth'], [1], {})
    record = _noted(tmp_path)
    record.go_on_from(tmp_path / 'epoch_2.pth', 2)
    assert (record.evaluated, record.best) == ([1, 2], BEST)
    assert RunRecord(tmp_path).load().best == BEST


@pytest.mark.parametrize(
    'changes',
    [
        dict(evaluated=['x']),
        dict(evaluated=3),
        dict(evaluated=[None]),
        dict(best=3),
        dict(best=dict(BEST, best_epoch=None)),
        dict(best=dict(best_metric='NDS')),
        dict(best=dict(BEST, best_score='high')),
    ],
)
def test_damaged_record_is_a_new_one(tmp_path: Path, changes: dict[str, Any]) -> None:
    record = _noted(tmp_path, **changes)
    record.go_on_from(tmp_path / 'epoch_2.pth', 2)
    assert (record.saved, record.evaluated, record.best) == (['epoch_1.pth', 'epoch_2.pth'], [], {})


@pytest.mark.parametrize('text', ['', '[1]', '{"saved": 3}', '{"saved": [1, null]}'])
def test_file_that_is_no_record_is_a_new_one(tmp_path: Path, text: str) -> None:
    (tmp_path / 'checkpoints.json').write_text(text)
    record = RunRecord(tmp_path)
    record.go_on_from(tmp_path / 'epoch_2.pth', 2)
    assert (record.saved, record.evaluated, record.best) == (['epoch_2.pth'], [], {})

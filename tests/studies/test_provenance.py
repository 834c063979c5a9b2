"""The end of a report says what was run, and on what."""

from pathlib import Path

from projects.mmdet3d_plugin.common.files import write_json
from projects.mmdet3d_plugin.studies.provenance import add_provenance, machine
from projects.mmdet3d_plugin.studies.stages import Stage, StageRunner
from projects.mmdet3d_plugin.visualization.report import Report


def test_finished_stages_are_listed_with_their_times(tmp_path: Path) -> None:
    stages = [Stage(name, f'Do {name}', (f'{name}.py',), ()) for name in ('one', 'two')]
    write_json(tmp_path / 'stamps' / 'one.json', {'key': '', 'seconds': 61})
    report = Report('title')
    add_provenance(report, StageRunner(tmp_path, stages, tmp_path), {'world': 'a small one'})
    text = report.html()
    assert 'python one.py' in text
    assert 'python two.py' not in text
    assert '0:01:01' in text
    assert 'a small one' in text
    assert 'torch version' in text


def test_machine_is_described() -> None:
    assert 'cores' in machine()

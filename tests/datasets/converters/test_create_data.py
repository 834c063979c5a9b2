from pathlib import Path

import pytest

from projects.mmdet3d_plugin.datasets.converters.create_data import main


def test_a_problem_is_one_line_and_status_two(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(['nuscenes', '--root-path', str(tmp_path), '--version', 'v1.0-mini']) == 2
    captured = capsys.readouterr()
    assert captured.err == f'error: no tables of v1.0-mini in {tmp_path}; it holds no v1.0-* folder\n'


def test_files_are_written_where_asked(tiny_nuscenes: Path, tmp_path: Path) -> None:
    args = [
        'nuscenes',
        '--root-path',
        str(tiny_nuscenes),
        '--version',
        'v1.0-trainval',
        '--out-dir',
        str(tmp_path),
    ]
    assert main(args) == 0
    assert len(list(tmp_path.glob('nuscenes_infos_temporal_*.pkl'))) == 2

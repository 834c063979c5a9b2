"""Files of points: what they hold is told by name, and not read as something else."""

from pathlib import Path

import numpy as np
import pytest

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.datasets.point_files import describe_intensities, finite_rows, read_points
from projects.mmdet3d_plugin.datasets.transforms.load_points import LoadPoints, LoadSweeps


def _scan(columns: int = 4, count: int = 600) -> np.ndarray:
    """A round scan of the ground, point after point around: x, y, z, intensity, then ring numbers."""
    angle = np.linspace(0, 40, count)
    reach = np.linspace(5, 60, count)
    rng = np.random.default_rng(0)
    parts = [reach * np.cos(angle), reach * np.sin(angle), rng.normal(-1.7, 0.1, count), rng.random(count)]
    return np.stack([*parts, *[np.arange(count) % 32] * (columns - 4)][:columns], 1).astype(np.float32)


def _write(path: Path, points: np.ndarray) -> Path:
    points.tofile(path)
    return path


def test_what_is_asked_for_is_read(tmp_path: Path) -> None:
    for columns in (3, 4, 5, 6):
        path = _write(tmp_path / 'a.bin', _scan(columns))
        np.testing.assert_array_equal(read_points(path, columns), _scan(columns))
    assert read_points(_write(tmp_path / 'a.bin', _scan()[:0])).shape == (0, 4)


@pytest.mark.parametrize(
    ('points', 'load_dim', 'wanted'),
    [
        (_scan(5), 4, r'looks like 5 32-bit floats: say load_dim=5 \(--load-dim 5'),
        (_scan(6), 4, 'looks like 6 32-bit floats'),
        (_scan(4), 5, 'looks like 4 32-bit floats: say load_dim=4'),
        (_scan(3), 4, 'looks like 3 32-bit floats: store x, y, z and intensity'),
        (_scan(4).astype(np.float64), 4, 'looks like 4 64-bit floats: store .* as 32-bit floats'),
        (_scan(4).astype(np.float64) * 1.1, 4, 'looks like 4 64-bit floats'),
        (_scan(5).astype(np.float64), 5, 'looks like 5 64-bit floats'),
        (_scan(4).astype(np.float16), 4, 'looks like 4 16-bit floats: store .* as 32-bit floats'),
        (_scan(5).astype(np.float16), 4, 'looks like 5 16-bit floats'),
        (np.zeros(6, np.float32), 4, 'does not hold whole points'),
        (np.full((3, 4), 1e20, np.float32), 4, 'holds points beyond 10 km'),
    ],
)
def test_another_layout_is_told_by_name(
    tmp_path: Path, points: np.ndarray, load_dim: int, wanted: str
) -> None:
    with pytest.raises(UserError, match=f'a.bin .*{wanted}'):
        read_points(_write(tmp_path / 'a.bin', points), load_dim)


def test_negative_intensities_of_somebodys_own_are_no_other_layout(tmp_path: Path) -> None:
    points = _scan()
    points[:, 3] -= 0.5
    np.testing.assert_array_equal(read_points(_write(tmp_path / 'a.bin', points)), points)


def test_intensities_that_are_not_kittis_are_told_with_the_file() -> None:
    points = _scan()
    assert describe_intensities(Path('a.bin'), points) is None
    assert describe_intensities(Path('a.bin'), points[:0]) is None
    points[:, 3] = np.nan
    assert describe_intensities(Path('a.bin'), points) is None
    points[:, 3] = np.linspace(0, 251, len(points))
    said = describe_intensities(Path('a.bin'), points)
    assert said.startswith("a.bin has intensities up to 251, KITTI's are from 0 to 1")
    assert 'divide them by 255' in said
    assert 'divide them by 4095' in describe_intensities(Path('a.bin'), points * (4095 / 251))


def test_points_that_are_not_finite_are_left_out_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    points = _scan()
    points[::50, 3], points[7, 0] = np.nan, np.inf
    path = _write(tmp_path / 'a.bin', points)
    assert finite_rows(read_points(path)).sum() == 600 - 13
    load = LoadPoints('LIDAR', load_dim=4, use_dim=4)
    for _ in range(2):
        loaded = load(dict(pts_filename=str(path)))['points'].tensor
        np.testing.assert_array_equal(loaded.numpy(), points[np.isfinite(points).all(1)])
    (record,) = caplog.records
    assert '13 of 600 points' in record.getMessage()
    assert str(path) in record.getMessage()


def test_what_is_not_used_may_be_anything(tmp_path: Path) -> None:
    points = _scan(5)
    points[:, 4] = np.nan
    path = _write(tmp_path / 'a.bin', points)
    load = LoadPoints('LIDAR', load_dim=5, use_dim=4)
    assert len(load(dict(pts_filename=str(path)))['points']) == 600


def test_sweeps_are_checked_too(tmp_path: Path) -> None:
    points = _scan(5)
    points[0, 2] = np.nan
    path = str(_write(tmp_path / 'a.bin', points))
    sweep = dict(
        data_path=path, timestamp=0, sensor2lidar_rotation=np.eye(3), sensor2lidar_translation=np.zeros(3)
    )
    frame = LoadPoints('LIDAR', load_dim=5, use_dim=5)(dict(pts_filename=path))
    joined = LoadSweeps(1, use_dim=[0, 1, 2, 3, 4])({**frame, 'timestamp': 1.0, 'sweeps': [sweep]})
    assert len(joined['points']) == 599 + 599
    sweep['data_path'] = str(tmp_path / 'b.bin')
    (tmp_path / 'b.bin').write_bytes(b'123')
    with pytest.raises(UserError, match=r'b.bin does not hold whole points'):
        LoadSweeps(1, use_dim=[0, 1, 2, 3, 4])({**frame, 'timestamp': 1.0, 'sweeps': [sweep]})

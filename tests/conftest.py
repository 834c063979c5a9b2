"""Data that several tests share, and how workers of pytest-xdist share a machine."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from projects.mmdet3d_plugin.datasets.converters.kitti_converter import create_kitti_infos
from projects.mmdet3d_plugin.datasets.converters.nuscenes_converter import create_nuscenes_infos
from projects.mmdet3d_plugin.worlds.create import create_coco_world
from projects.mmdet3d_plugin.worlds.writers.kitti_writer import create_kitti_world
from tests.nuscenes_tables import write_nuscenes

IS_WORKER = 'PYTEST_XDIST_WORKER' in os.environ


def pytest_configure() -> None:
    """A worker has one core, as have the processes that it starts: the others belong to other workers."""
    if IS_WORKER:
        os.environ['OMP_NUM_THREADS'] = '1'
        torch.set_num_threads(1)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first worker in need of it fills while the others wait; nothing may write into it.

    Args:
        factory: of temporary folders.
        name: of the folder, unique in the suite.
        make: fills the folder, which does not exist yet.
    """
    base = factory.getbasetemp()
    root = (base.parent if IS_WORKER else base) / name
    with (root.parent / f'{name}.lock').open('a+') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if lock.tell() == 0:
            make(root)
            lock.write('made\n')
    return root


def _shared_data() -> Path | None:
    """``FD_SHARED``, or the folder ``shared`` beside this checkout or beside one of the folders above it."""
    if 'FD_SHARED' in os.environ:
        return Path(os.environ['FD_SHARED']) / 'data'
    candidates = (folder / 'shared' / 'data' for folder in Path(__file__).resolve().parents[1:])
    return next((path for path in candidates if path.is_dir()), None)


@pytest.fixture(scope='session')
def nuscenes_one_frame() -> Path:
    """The real nuScenes keyframe, read only; skips where it is not."""
    shared = _shared_data()
    path = shared / 'nuscenes_one_frame' if shared else None
    if path is None or not path.is_dir():
        pytest.skip(
            'needs the real frame of ../shared/data/nuscenes_one_frame (set FD_SHARED to its shared/)'
        )
    return path


@pytest.fixture(scope='session')
def parity() -> Path:
    """The folder of what original modules computed from the real frame; skips where it is not."""
    shared = _shared_data()
    if shared is None or not (shared / 'parity').is_dir():
        pytest.skip('needs the files of ../shared/data/parity (set FD_SHARED to its shared/)')
    return shared / 'parity'


@pytest.fixture(scope='session')
def kitti_one_frame(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with links to the real KITTI frame 000008 and all that tools/create_data.py makes of it."""
    root = _linked_kitti('kitti_one_frame', tmp_path_factory)
    create_kitti_infos(root, progress=False)
    return root


@pytest.fixture(scope='session')
def kitti_five_frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with links to five real KITTI frames and nothing made of them; skips where they are not."""
    return _linked_kitti('kitti_five_frames', tmp_path_factory)


def _linked_kitti(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of links to real KITTI frames, to write into."""
    shared = _shared_data()
    path = shared / name if shared else None
    if path is None or not path.is_dir():
        pytest.skip(f'needs the real frames of ../shared/data/{name} (set FD_SHARED to its shared/)')
    root = tmp_path_factory.mktemp(name)
    (root / 'training').mkdir()
    (root / 'ImageSets').symlink_to(path / 'ImageSets')
    for folder in (path / 'training').iterdir():
        (root / 'training' / folder.name).symlink_to(folder)
    return root


@pytest.fixture(scope='session')
def synthetic_kitti(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic world of twelve frames (nine to train on) with its info files. Nothing may write into it."""

    def make(root: Path) -> None:
        create_kitti_world(root, 12, 3, progress=False, workers=1)
        create_kitti_infos(root, progress=False)

    return made_once(tmp_path_factory, 'synthetic_kitti', make)


@pytest.fixture(scope='session')
def coco_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic world in COCO's layout: twelve 96x64 images to train on, six to validate. Nothing may write into it."""
    root = tmp_path_factory.mktemp('coco_world') / 'data'
    create_coco_world(root, 3, 3, (96, 64), progress=False, workers=1)
    return root


@pytest.fixture(scope='session')
def one_frame_root(nuscenes_one_frame: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with links to the real frame and fresh info files of version v1.0-mini."""
    root = tmp_path_factory.mktemp('one_frame')
    for entry in nuscenes_one_frame.iterdir():
        (root / entry.name).symlink_to(entry)
    create_nuscenes_infos(root, 'v1.0-mini', progress=False)
    return root


@pytest.fixture(scope='session')
def tiny_nuscenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up data root: two scenes to train on (5 and 3 frames), one to validate (4 frames), version v1.0-trainval.

    Images are 64x36 noise. Nothing may write into it.
    """

    def make(root: Path) -> None:
        write_nuscenes(root, 'v1.0-trainval', {'scene-0001': 5, 'scene-0002': 3, 'scene-0003': 4})
        create_nuscenes_infos(root, 'v1.0-trainval', progress=False)

    return made_once(tmp_path_factory, 'tiny_nuscenes', make)

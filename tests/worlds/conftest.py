"""A small scene and a small world, made once for all tests here."""

from pathlib import Path

import numpy as np
import pytest

from projects.mmdet3d_plugin.worlds.create import create_world
from projects.mmdet3d_plugin.worlds.scene import Scene, build_scene
from tests.conftest import made_once

SIZE = (200, 112)


@pytest.fixture(scope='session')
def scene() -> Scene:
    return build_scene('scene-0001', np.random.SeedSequence(5), 4, SIZE)


@pytest.fixture(scope='session')
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes (two for training) of four keyframes, with one LiDAR sweep between two of them."""
    return made_once(
        tmp_path_factory,
        'world',
        lambda root: create_world(root, 3, 7, SIZE, frames=4, sweeps=1, progress=False, workers=1),
    )

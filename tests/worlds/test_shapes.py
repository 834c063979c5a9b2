import numpy as np
import pytest

from projects.mmdet3d_plugin.worlds.catalog import DISTRACTORS, OBJECT_CLASSES
from projects.mmdet3d_plugin.worlds.mesh import Mesh
from projects.mmdet3d_plugin.worlds.shapes import make_mesh

SIZES = {**{name: spec.size for name, spec in OBJECT_CLASSES.items()}, **DISTRACTORS}


def _mesh(kind: str, moving: bool, seed: int = 0) -> Mesh:
    return make_mesh(kind, SIZES[kind], np.random.default_rng(seed), moving)


@pytest.mark.parametrize('moving', [False, True])
@pytest.mark.parametrize('kind', SIZES)
def test_shape_fills_its_box(kind: str, moving: bool) -> None:
    """An annotated box must be tight: it is what a detector is taught."""
    corners = _mesh(kind, moving).polygons.reshape(-1, 3)
    length, width, height = SIZES[kind]
    np.testing.assert_allclose(corners.min(0), [-length / 2, -width / 2, 0], atol=1e-9)
    np.testing.assert_allclose(corners.max(0), [length / 2, width / 2, height], atol=1e-9)


@pytest.mark.parametrize('moving', [False, True])
@pytest.mark.parametrize('kind', SIZES)
def test_parts_never_overlap(kind: str, moving: bool) -> None:
    """The painter's order is only exact for parts that keep out of each other."""
    low, high = _mesh(kind, moving).bounds.transpose(1, 0, 2)
    shared = np.minimum(high[:, None], high[None]) - np.maximum(low[:, None], low[None])
    np.fill_diagonal(shared[..., 0], 0)
    assert shared.min(-1).max() < 1e-9


@pytest.mark.parametrize(
    'kind', ['car', 'truck', 'bus', 'trailer', 'construction_vehicle', 'pedestrian', 'motorcycle', 'bicycle']
)
def test_front_and_rear_look_different(kind: str) -> None:
    mesh = _mesh(kind, moving=True)
    front, rear = ({tuple(row) for row in mesh.colours[mesh.normals[:, 0] * sign > 0.5]} for sign in (1, -1))
    assert front != rear


@pytest.mark.parametrize(('kind', 'helmet'), [('bicycle', (250, 220, 60)), ('motorcycle', (236, 60, 40))])
def test_only_a_moving_cycle_has_a_rider(kind: str, helmet: tuple[int, int, int]) -> None:
    for moving in (True, False):
        assert (_mesh(kind, moving).colours == helmet).all(1).any() == moving


def test_paint_varies_with_the_generator() -> None:
    assert not np.array_equal(_mesh('car', False, 0).colours, _mesh('car', False, 1).colours)
    np.testing.assert_array_equal(_mesh('car', False, 3).colours, _mesh('car', False, 3).colours)

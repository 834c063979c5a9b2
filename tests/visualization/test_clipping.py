"""Frustum clipping, against answers worked out by hand."""

import numpy as np
import pytest

from projects.mmdet3d_plugin.common.geometry import transform_points
from projects.mmdet3d_plugin.visualization.clipping import clip_polygon, clip_segments

WIDTH, HEIGHT = 100, 80
# a camera at the LiDAR's origin that looks forward (LiDAR y), focal length 50 pixels
LOOKING_FORWARD = np.array([(50, 50, 0, 0), (0, 40, -50, 0), (0, 1, 0, 0), (0, 0, 0, 1)], dtype=float)


def test_segment_in_view_is_unchanged() -> None:
    ends = transform_points(np.array([[(-1, 10, 0), (1, 10, 0)]], dtype=float), LOOKING_FORWARD)
    pixels, source = clip_segments(ends, WIDTH, HEIGHT)
    np.testing.assert_allclose(pixels, [[(45, 40), (55, 40)]])
    assert source.tolist() == [0]


def test_segment_over_the_border_ends_on_it() -> None:
    ends = transform_points(np.array([[(0, 10, 0), (100, 10, 0)]], dtype=float), LOOKING_FORWARD)
    pixels, _ = clip_segments(ends, WIDTH, HEIGHT)
    np.testing.assert_allclose(pixels, [[(50, 40), (100, 40)]])


def test_segment_behind_the_camera_is_dropped_and_not_mirrored() -> None:
    ends = transform_points(np.array([[(-1, -10, 0), (1, -10, 0)]], dtype=float), LOOKING_FORWARD)
    pixels, source = clip_segments(ends, WIDTH, HEIGHT)
    assert pixels.shape == (0, 2, 2)
    assert source.shape == (0,)


def test_segment_that_passes_the_camera_leaves_at_the_border() -> None:
    # along the left of the camera from far ahead to behind it: leaves over the left border at y = x
    ends = transform_points(np.array([[(-2, 20, 0), (-2, -20, 0)]], dtype=float), LOOKING_FORWARD)
    pixels, _ = clip_segments(ends, WIDTH, HEIGHT)
    np.testing.assert_allclose(pixels, [[(45, 40), (0, 40)]])


def test_clipping_agrees_with_dense_sampling() -> None:
    rng = np.random.default_rng(0)
    ends = transform_points(rng.uniform(-12, 12, (200, 2, 3)), LOOKING_FORWARD)
    pixels, source = clip_segments(ends, WIDTH, HEIGHT)
    along = np.linspace(0, 1, 2001)[:, None, None]
    dense = ends[:, 0] + along * (ends[:, 1] - ends[:, 0])
    with np.errstate(divide='ignore', invalid='ignore'):
        uv = dense[..., :2] / dense[..., 2:]
    inside = (dense[..., 2] >= 0.1) & (uv >= 0).all(-1) & (uv <= (WIDTH, HEIGHT)).all(-1)
    many = np.flatnonzero(inside.sum(axis=0) > 2)
    assert set(many) <= set(source)
    assert len(many) > 20
    for index in many:
        # compare extents; a sampled end lies within one sampling step of the true end
        sampled = uv[inside[:, index], index]
        exact = pixels[source.tolist().index(index)]
        np.testing.assert_allclose(sampled[[0, -1]], exact, atol=2.0)
        assert (exact >= -1e-6).all()
        assert (exact <= np.array([WIDTH, HEIGHT]) + 1e-6).all()


def test_polygon_is_cut_at_the_corner_of_the_image() -> None:
    square = np.array([(-1, 10, -1), (100, 10, -1), (100, 10, 100), (-1, 10, 100)], dtype=float)
    pixels = clip_polygon(transform_points(square, LOOKING_FORWARD), WIDTH, HEIGHT)
    assert sorted(map(tuple, np.round(pixels, 6))) == [(45, 0), (45, 45), (100, 0), (100, 45)]


@pytest.mark.parametrize('ahead', [-5.0, 0.0])
def test_polygon_not_ahead_is_empty(ahead: float) -> None:
    square = np.array([(-1, ahead, -1), (1, ahead, -1), (1, ahead, 1), (-1, ahead, 1)])
    assert clip_polygon(transform_points(square, LOOKING_FORWARD), WIDTH, HEIGHT).shape == (0, 2)

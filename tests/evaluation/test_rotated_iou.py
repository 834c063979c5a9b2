import numpy as np
import pytest
from shapely.geometry import Polygon

from projects.mmdet3d_plugin.evaluation.rotated_iou import (
    box_iou,
    image_box_iou,
    rectangle_intersection,
    rectangle_iou,
)


def _polygon(rectangle: np.ndarray) -> Polygon:
    x, y, length, width, yaw = rectangle
    corners = [
        (length / 2, width / 2),
        (-length / 2, width / 2),
        (-length / 2, -width / 2),
        (length / 2, -width / 2),
    ]
    c, s = np.cos(yaw), np.sin(yaw)
    return Polygon([(x + c * a - s * b, y + s * a + c * b) for a, b in corners])


def _rectangles(rng: np.random.Generator, count: int) -> np.ndarray:
    return np.column_stack(
        [rng.normal(30, 1.5, (count, 2)), rng.uniform(0.1, 5, (count, 2)), rng.uniform(-7, 7, count)]
    )


def test_random_rectangles_share_what_shapely_says() -> None:
    rng = np.random.default_rng(0)
    first, second = _rectangles(rng, 400), _rectangles(rng, 400)
    wanted = [_polygon(a).intersection(_polygon(b)).area for a, b in zip(first, second, strict=True)]
    assert np.count_nonzero(wanted) > 200
    np.testing.assert_allclose(rectangle_intersection(first, second), wanted, atol=1e-8)


@pytest.mark.parametrize('nudge', [0, 1e-4, 1e-6, 1e-9, 1e-12, 1e-15])
@pytest.mark.parametrize('column', [0, 2, 4])
def test_nearly_equal_rectangles_count_shared_sides_once(nudge: float, column: int) -> None:
    rng = np.random.default_rng(1)
    first = _rectangles(rng, 50)
    second = first.copy()
    second[:, column] += nudge
    second[:, 4] += np.pi * rng.integers(-2, 3, 50)
    area = first[:, 2] * first[:, 3]
    np.testing.assert_allclose(rectangle_intersection(first, second), area, atol=20 * nudge + 2e-6)


def test_rectangles_that_only_touch_share_nothing() -> None:
    rng = np.random.default_rng(2)
    first = np.column_stack(
        [rng.integers(-3, 3, (200, 2)), 2 * rng.integers(1, 3, (200, 2)), np.zeros(200)]
    ).astype(float)
    second = np.column_stack(
        [rng.integers(-3, 3, (200, 2)), 2 * rng.integers(1, 3, (200, 2)), np.zeros(200)]
    ).astype(float)
    second[:, 4] = np.pi / 2 * rng.integers(-2, 3, 200)
    wanted = [_polygon(a).intersection(_polygon(b)).area for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(rectangle_intersection(first, second), wanted, atol=1e-7)


def test_order_does_not_matter_and_empty_is_fine() -> None:
    rng = np.random.default_rng(3)
    first, second = _rectangles(rng, 30), _rectangles(rng, 40)
    table = rectangle_iou(first[:, None], second[None])
    np.testing.assert_allclose(table, rectangle_iou(second[:, None], first[None]).T, atol=1e-9)
    assert table.shape == (30, 40)
    assert rectangle_iou(np.zeros((0, 5)), np.zeros((0, 5))).shape == (0,)


def test_boxes_overlap_in_height_too() -> None:
    box = np.array([[1.0, 2, 3, 4, 2, 1.5, 0.3]])
    lifted = box + np.array([0, 0, 0.5, 0, 0, 0, 0])
    assert box_iou(box, box) == pytest.approx(1, abs=1e-6)
    assert box_iou(box, lifted) == pytest.approx(1 / 2, abs=1e-6)  # 1 m of the 2 m that both span
    assert box_iou(box, box + np.array([0, 0, 1.5, 0, 0, 0, 0])) == pytest.approx(0)


def test_image_boxes() -> None:
    first = np.array([[0.0, 0, 4, 4], [0, 0, 1, 1], [0, 0, 0, 0]])
    second = np.array([[2.0, 2, 6, 6], [5, 5, 6, 6], [0, 0, 0, 0]])
    np.testing.assert_allclose(image_box_iou(first, second), [4 / 28, 0, 0])

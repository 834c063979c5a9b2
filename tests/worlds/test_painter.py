import numpy as np

from projects.mmdet3d_plugin.worlds.painter import boxes_hide, footprints_hide, paint_order


def _square(x: float, y: float, length: float = 1.0, width: float = 1.0) -> np.ndarray:
    return (
        np.array(
            [
                (x - length, y - width),
                (x + length, y - width),
                (x + length, y + width),
                (x - length, y + width),
            ]
        )
        / 1.0
    )


def test_nearer_square_hides_the_farther_one() -> None:
    hides = footprints_hide(np.stack([_square(10, 0), _square(5, 0)]), np.zeros(2))
    np.testing.assert_array_equal(hides, [[False, False], [True, False]])


def test_a_long_box_is_ordered_by_sides_not_by_centres() -> None:
    """A pedestrian beside the far end of a bus: the bus's centre is nearer, yet it is the pedestrian who is in front."""
    bus, pedestrian = _square(0, 6, 20, 1), _square(15, 4, 0.3, 0.3)
    viewer = np.zeros(2)
    assert np.linalg.norm(bus.mean(0)) < np.linalg.norm(pedestrian.mean(0))
    hides = footprints_hide(np.stack([bus, pedestrian]), viewer)
    np.testing.assert_array_equal(hides, [[False, False], [True, False]])


def test_side_by_side_hide_nothing() -> None:
    hides = footprints_hide(np.stack([_square(5, -5), _square(5, 5)]), np.zeros(2))
    assert not hides.any()


def test_boxes_in_a_stack() -> None:
    bounds = np.array([[(0, 0, 0), (1, 1, 1)], [(0, 0, 1), (1, 1, 2)]], dtype=float)
    np.testing.assert_array_equal(
        boxes_hide(bounds, np.array([0.5, 0.5, 5])), [[False, False], [True, False]]
    )
    np.testing.assert_array_equal(
        boxes_hide(bounds, np.array([0.5, 0.5, -5])), [[False, True], [False, False]]
    )
    assert not boxes_hide(bounds, np.array([5, 0.5, 1.0])).any()


def test_order_respects_chains_over_distance() -> None:
    hides = np.zeros((3, 3), dtype=bool)
    hides[0, 1] = hides[1, 2] = True
    np.testing.assert_array_equal(paint_order(hides, np.array([9.0, 5.0, 1.0])), [2, 1, 0])


def test_order_ends_in_a_ring_and_for_nothing() -> None:
    ring = np.roll(np.eye(3, dtype=bool), 1, axis=1)
    np.testing.assert_array_equal(paint_order(ring, np.array([1.0, 3.0, 2.0])), [1, 2, 0])
    assert paint_order(np.zeros((0, 0), dtype=bool), np.zeros(0)).shape == (0,)

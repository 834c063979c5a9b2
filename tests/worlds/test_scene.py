import numpy as np

from projects.mmdet3d_plugin.worlds.catalog import DISTRACTORS, OBJECT_CLASSES
from projects.mmdet3d_plugin.worlds.scene import EGO_SIZE, Scene, build_scene, overlaps


def _corners(pose: np.ndarray, length: float, width: float, ahead: float = 0.0) -> np.ndarray:
    """Footprint (4, 2), written anew so that the tests do not lean on what they test."""
    x, y, yaw = pose
    turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    local = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (length / 2, width / 2) + (ahead, 0)
    return local @ turn.T + (x, y)


def test_every_class_is_there(scene: Scene) -> None:
    kinds = {thing.kind for thing in scene.things}
    assert kinds == set(OBJECT_CLASSES) | set(DISTRACTORS)
    assert all(thing.labelled == (thing.kind in OBJECT_CLASSES) for thing in scene.things)
    assert 15 <= sum(thing.labelled for thing in scene.things) <= 25


def test_nothing_touches_at_any_time() -> None:
    for seed in range(4):
        scene = build_scene('scene-0001', np.random.SeedSequence(seed), 6, (64, 64))
        for time in np.arange(-0.04, scene.times[-1] + 0.01, 0.1):
            boxes = [_corners(scene.ego.at(time), *EGO_SIZE, ahead=1.3)]
            boxes += [_corners(thing.motion.at(time), *thing.size[:2]) for thing in scene.things]
            boxes = np.stack(boxes)
            touching = overlaps(boxes[:, None], boxes[None])
            np.fill_diagonal(touching, False)
            assert not touching.any(), (
                seed,
                time,
                [scene.things[i - 1].kind for i in np.argwhere(touching)[0]],
            )


def test_speeds_fit_the_class(scene: Scene) -> None:
    for thing in scene.things:
        if thing.moving:
            low, high = OBJECT_CLASSES[thing.kind].speed
            assert low <= thing.motion.speed <= high
    assert any(thing.moving for thing in scene.things)


def test_sizes_are_typical(scene: Scene) -> None:
    for thing in scene.things:
        if thing.labelled and thing.moving:
            ratio = np.array(thing.size) / OBJECT_CLASSES[thing.kind].size
            assert (np.abs(ratio - 1) < 0.2).all()


def test_same_seed_same_scene_other_seed_other_scene() -> None:
    first, again, other = (
        build_scene('scene-0001', np.random.SeedSequence(seed), 4, (64, 64)) for seed in (1, 1, 2)
    )
    assert [thing.motion for thing in first.things] == [thing.motion for thing in again.things]
    assert first.ego != other.ego


def test_overlap_of_turned_rectangles() -> None:
    square = _corners(np.array([0.0, 0, 0]), 2, 2)
    assert overlaps(square, _corners(np.array([1.9, 0, np.pi / 4]), 2, 2))
    assert not overlaps(square, _corners(np.array([2.5, 0, np.pi / 4]), 2, 2))
    assert overlaps(square, _corners(np.array([0.0, 0, 1.0]), 0.1, 0.1))  # one inside the other

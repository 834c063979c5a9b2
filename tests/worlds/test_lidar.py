import dataclasses

import numpy as np

from projects.mmdet3d_plugin.common.geometry import planar_pose
from projects.mmdet3d_plugin.worlds.lidar import SPARSE, Lidar
from projects.mmdet3d_plugin.worlds.motion import Motion
from projects.mmdet3d_plugin.worlds.scene import Scene, Thing
from projects.mmdet3d_plugin.worlds.shapes import make_mesh

TIME = 0.5


def _world_points(scene: Scene, points: np.ndarray) -> np.ndarray:
    pose = planar_pose(*scene.ego.at(TIME)) @ scene.rig.lidar2ego
    return points[:, :3] @ pose[:3, :3].T + pose[:3, 3]


def test_points_lie_on_the_ground_or_in_a_box(scene: Scene) -> None:
    sweep = Lidar(scene).cast(TIME, np.random.default_rng(0))
    world = _world_points(scene, sweep.points)
    explained = np.abs(world[:, 2]) < 0.1
    for index, thing in enumerate(scene.things):
        x, y, yaw = thing.motion.at(TIME)
        local = (world - (x, y, 0)) @ planar_pose(0, 0, yaw)[:3, :3]
        length, width, height = thing.size
        inside = (np.abs(local[:, :2]) < np.array([length, width]) / 2 + 0.1).all(1) & (
            local[:, 2] < height + 0.1
        )
        # Ground points right at the edge of a box are counted here and were not cast as hits.
        assert abs(int((inside & (local[:, 2] > 0.12)).sum()) - sweep.hits[index]) <= max(
            5, 0.2 * sweep.hits[index]
        )
        explained |= inside
    assert explained.all()
    assert sweep.hits.sum() > 500


def test_layout_of_the_points(scene: Scene) -> None:
    points = Lidar(scene).cast(TIME, np.random.default_rng(0)).points
    assert points.dtype == np.float32
    assert points.shape[1] == 5
    assert set(np.unique(points[:, 4])) <= set(range(len(SPARSE.elevations)))
    assert 0 <= points[:, 3].min() <= points[:, 3].max() <= 255
    elevation = np.arctan2(points[:, 2], np.linalg.norm(points[:, :2], axis=1))
    assert np.corrcoef(elevation, points[:, 4])[0, 1] > 0.999
    azimuth = np.arctan2(points[:, 1], points[:, 0])
    assert np.histogram(azimuth, bins=24)[0].min() > 100  # all the way round


def test_what_stands_behind_is_not_hit(scene: Scene) -> None:
    def bus(x: float) -> Thing:
        size = (11.0, 2.9, 3.4)
        return Thing(
            'bus', True, size, Motion(x, 100.0, np.pi / 2), make_mesh('bus', size, np.random.default_rng(0))
        )

    size = (4.6, 1.9, 1.7)
    car = Thing(
        'car', True, size, Motion(120.0, 100.0, 0.0), make_mesh('car', size, np.random.default_rng(0))
    )
    staged = dataclasses.replace(scene, ego=Motion(100.0, 100.0, 0.0), things=(car, bus(110.0)))
    assert Lidar(staged).cast(TIME, np.random.default_rng(0)).hits[0] == 0
    open_view = dataclasses.replace(staged, things=(car, bus(130.0)))
    assert Lidar(open_view).cast(TIME, np.random.default_rng(0)).hits[0] > 30


def test_noise_comes_from_the_generator_alone(scene: Scene) -> None:
    lidar = Lidar(scene)
    first, again, other = (lidar.cast(TIME, np.random.default_rng(seed)).points for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)

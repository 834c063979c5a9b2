import dataclasses

import cv2
import numpy as np
import pytest

from projects.mmdet3d_plugin.common.geometry import planar_pose
from projects.mmdet3d_plugin.worlds.motion import Motion
from projects.mmdet3d_plugin.worlds.renderer import Picture, Renderer
from projects.mmdet3d_plugin.worlds.rig import Camera, make_rig
from projects.mmdet3d_plugin.worlds.scene import Scene, Thing, build_scene
from projects.mmdet3d_plugin.worlds.shapes import make_mesh


def _thing(kind: str, size: tuple[float, float, float], x: float, y: float, yaw: float = 0.0) -> Thing:
    return Thing(kind, True, size, Motion(x, y, yaw), make_mesh(kind, size, np.random.default_rng(0)))


def _stage(scene: Scene, *things: Thing) -> Scene:
    """The given things around an ego vehicle that stands at (100, 100) and looks along +x."""
    return dataclasses.replace(scene, ego=Motion(100.0, 100.0, 0.0), things=things, rig=make_rig(400, 224))


def _front(scene: Scene) -> Picture:
    return Renderer(scene).render(scene.rig.cameras[0], 0.0)


def _cast(scene: Scene, camera: Camera, time: float, pixels: np.ndarray) -> np.ndarray:
    """Brute force: the thing (n,) whose face the ray through each pixel (n, 2) meets first, -1 for none."""
    cam2global = planar_pose(*scene.ego.at(time)) @ camera.cam2ego
    rays = (
        np.column_stack([pixels, np.ones(len(pixels))])
        @ np.linalg.inv(camera.intrinsic).T
        @ cam2global[:3, :3].T
    )
    nearest, owner = np.full(len(pixels), np.inf), np.full(len(pixels), -1)
    for index, thing in enumerate(scene.things):
        pose = planar_pose(*thing.motion.at(time))
        faces = thing.mesh.polygons[thing.mesh.solid] @ pose[:3, :3].T + pose[:3, 3]
        normals = thing.mesh.normals[thing.mesh.solid] @ pose[:3, :3].T
        for face, normal in zip(faces, normals, strict=True):
            with np.errstate(divide='ignore', invalid='ignore'):
                depth = ((face[0] - cam2global[:3, 3]) @ normal) / (rays @ normal)
            point = cam2global[:3, 3] + depth[:, None] * rays
            sides = np.cross(np.roll(face, -1, axis=0) - face, point[:, None] - face) @ normal
            inside = (sides >= -1e-9).all(1) | (sides <= 1e-9).all(1)
            hit = inside & (depth > 0.2) & (depth < nearest)
            nearest[hit], owner[hit] = depth[hit], index
    return owner


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_every_pixel_shows_what_a_ray_meets_first(seed: int) -> None:
    """Painter's order, projection, clipping and culling, all against ray casting."""
    scene = build_scene('scene-0001', np.random.SeedSequence(seed), 4, (200, 112))
    renderer, rng = Renderer(scene), np.random.default_rng(seed)
    wrong, total, covered = 0, 0, 0
    for camera in scene.rig.cameras:
        owner = renderer.render(camera, 0.7).owner
        # Away from outlines: polygons are rasterised with a border of half a pixel.
        flat = (cv2.erode(owner, np.ones((3, 3))) == cv2.dilate(owner, np.ones((3, 3)))).nonzero()
        chosen = rng.choice(len(flat[0]), 300, replace=False)
        pixels = np.column_stack([flat[1][chosen], flat[0][chosen]])
        # The owner is read off the upper left of two by two pixels.
        expected = _cast(scene, camera, 0.7, pixels - 0.25)
        drawn = owner[pixels[:, 1], pixels[:, 0]]
        wrong, total, covered = (
            wrong + (drawn != expected).sum(),
            total + len(pixels),
            covered + (drawn >= 0).sum(),
        )
    assert covered > 200
    assert wrong / total < 0.001


def test_a_box_lands_where_its_corners_project(scene: Scene) -> None:
    size = (0.5, 2.5, 1.0)
    staged = _stage(scene, _thing('barrier', size, 110, 101, 0.3))
    camera = staged.rig.cameras[0]
    rows, columns = (_front(staged).owner == 0).nonzero()
    corners = np.array([(i, j, k) for i in (-0.25, 0.25) for j in (-1.25, 1.25) for k in (0.0, 1.0)])
    world = np.column_stack([corners, np.ones(8)]) @ planar_pose(110, 101, 0.3).T
    seen = world @ np.linalg.inv(planar_pose(100, 100, 0) @ camera.cam2ego).T
    pixels = seen[:, :3] @ camera.intrinsic.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    # The board is thinner than its feet, so the box is met only within a few pixels at the top.
    np.testing.assert_allclose(
        [columns.min(), columns.max()], [pixels[:, 0].min(), pixels[:, 0].max()], atol=4
    )
    np.testing.assert_allclose([rows.min(), rows.max()], [pixels[:, 1].min(), pixels[:, 1].max()], atol=1.5)


def test_visibility_of_a_hidden_thing(scene: Scene) -> None:
    bus, car = _thing('bus', (5, 2.9, 3.4), 110, 100, np.pi / 2), _thing('car', (4.6, 1.9, 1.7), 120, 100)
    picture = _front(_stage(scene, bus, car))
    assert picture.whole[1] > 50
    assert picture.seen[1] == 0
    assert picture.seen[0] == pytest.approx(picture.whole[0])
    beside = dataclasses.replace(car, motion=Motion(120.0, 106.4, 0.0))
    half = _front(_stage(scene, bus, beside))
    assert 0 < half.seen[1] < half.whole[1]


def test_what_reaches_behind_the_camera_is_cut_off(scene: Scene) -> None:
    """A trailer beside the ego vehicle spans several cameras; its near end lies behind the front-left one."""
    trailer = _thing('trailer', (12, 2.8, 3.8), 103, 104)
    staged = _stage(scene, trailer)
    renderer = Renderer(staged)
    shares = {
        camera.channel: (renderer.render(camera, 0.0).owner == 0).mean() for camera in staged.rig.cameras
    }
    assert shares['CAM_FRONT_LEFT'] > 0.3
    assert shares['CAM_BACK_LEFT'] > 0.3
    assert shares['CAM_FRONT_RIGHT'] == shares['CAM_BACK_RIGHT'] == 0


def test_ground_is_anchored_to_the_world(scene: Scene) -> None:
    """A spot of the ground keeps its look when the ego vehicle drives towards it."""
    staged = _stage(scene)
    staged = dataclasses.replace(
        staged, ego=Motion(100.0, 100.0, 0.0, speed=4.0), things=(_thing('sign', (0.2, 0.8, 2.6), 60, 60),)
    )
    texture = staged.ground.levels[0]
    texture[:] = 90
    cv2.circle(texture, (1080, 1000), 8, (255, 255, 255, 0), -1)
    levels = [texture]
    for _ in staged.ground.levels[1:]:
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    staged.ground.levels[:] = levels
    camera, renderer = staged.rig.cameras[0], Renderer(staged)
    for time in (0.0, 0.25):
        image = renderer.render(camera, time).image
        bright = (image[140:].min(-1) > 180).nonzero()
        spot = np.linalg.inv(planar_pose(*staged.ego.at(time)) @ camera.cam2ego) @ (
            108.05,
            99.95,
            0,
            1,
        )  # the middle of texel (1080, 1000)
        pixel = camera.intrinsic @ spot[:3] / spot[2]
        assert abs(bright[1].mean() - pixel[0]) < 1
        assert abs(bright[0].mean() + 140 - pixel[1]) < 1.5


def test_same_picture_every_time(scene: Scene) -> None:
    camera = scene.rig.cameras[3]
    first, again = (Renderer(scene).render(camera, 0.5).image for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (112, 200, 3)
    assert first.dtype == np.uint8

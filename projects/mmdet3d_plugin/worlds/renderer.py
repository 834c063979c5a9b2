"""From a scene to camera images: perspective-correct ground, shaded parts painted back to front, true visibility."""

from dataclasses import dataclass

import cv2
import numpy as np

from projects.mmdet3d_plugin.common.geometry import planar_pose, rectangle_corners, turn
from projects.mmdet3d_plugin.worlds.ground import LEVELS, texel_transform
from projects.mmdet3d_plugin.worlds.motion import rotate, stack_motions
from projects.mmdet3d_plugin.worlds.painter import boxes_hide, footprints_hide, paint_order
from projects.mmdet3d_plugin.worlds.rig import Camera
from projects.mmdet3d_plugin.worlds.scene import Scene

NEAR = 0.2  # metres; nothing closer to a camera is drawn
_FAR = 110.0
_HAZE = (35.0, 95.0)  # metres over which the ground fades into the horizon
_LEVEL_BELOW = (12.0, 24.0, 48.0)  # metres up to which each texture level serves
_SHADOW = 0.58
_SHIFT = 3  # fractional bits of polygon corners


@dataclass(frozen=True)
class Picture:
    """What one camera sees.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        owner: (H, W) int16, the thing that shows at each pixel, -1 for ground and sky.
        seen: (n,) pixels of each thing of the scene that show.
        whole: (n,) pixels that would show if it stood there alone.
    """

    image: np.ndarray
    owner: np.ndarray
    seen: np.ndarray
    whole: np.ndarray


class Renderer:
    """Draws one scene with the cameras of its rig.

    Args:
        scene: what to draw; at most 255 things.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._stage = Stage(scene)
        self._views = {camera.channel: _View(camera, scene) for camera in scene.rig.cameras}

    def render(self, camera: Camera, time: float) -> Picture:
        """Draw what a camera of the rig sees.

        Args:
            camera: which camera.
            time: seconds since the start of the scene.

        Returns:
            The picture.
        """
        view = self._views[camera.channel]
        ego = self.scene.ego.at(time)
        cam2global = planar_pose(*ego) @ camera.cam2ego
        canvas = view.background(ego)
        polygons = self._stage.polygons(time, cam2global)
        view.cast_shadows(canvas, self._stage.shadows(time, cam2global))
        whole = view.paint(canvas, polygons, len(self.scene.things))
        return view.develop(canvas, whole)


@dataclass(frozen=True)
class Polygons:
    """Visible polygons in painting order, in the optical frame of a camera.

    Attributes:
        corners: (P, K, 3) metres, x right, y down, z ahead.
        colours: (P, 3) BGR.
        owner: (P,) thing.
        solid: (P,) bool, False for paint on a face.
    """

    corners: np.ndarray
    colours: np.ndarray
    owner: np.ndarray
    solid: np.ndarray


class Stage:
    """All things of a scene as flat arrays, ready to be posed.

    Args:
        scene: the scene.
    """

    def __init__(self, scene: Scene) -> None:
        meshes = [thing.mesh for thing in scene.things]
        counts = [len(mesh.polygons) for mesh in meshes]
        self.scene = scene
        self.motion = stack_motions([thing.motion for thing in scene.things])
        self.owner = np.repeat(np.arange(len(meshes)), counts)
        self.corners = np.concatenate([mesh.polygons for mesh in meshes])
        self.normals = np.concatenate([mesh.normals for mesh in meshes])
        self.colours = np.concatenate([mesh.colours for mesh in meshes])[:, ::-1]
        self.solid = np.concatenate([mesh.solid for mesh in meshes])
        self.part = np.concatenate([mesh.part for mesh in meshes])
        self.sizes = np.array([thing.size for thing in scene.things])
        self.radius = np.linalg.norm(self.sizes, axis=-1) / 2

    def poses(self, time: float) -> np.ndarray:
        """Position and heading (n, 3) of all things."""
        return self.motion.at(time)

    def polygons(self, time: float, cam2global: np.ndarray) -> Polygons:
        """What a camera at pose (4, 4) may see, in painting order."""
        poses, eye = self.poses(time), cam2global[:3, 3]
        things = self._within_view(poses, cam2global)
        distance = np.linalg.norm(poses[things, :2] - eye[:2], axis=-1)
        hides = footprints_hide(self._footprints(poses)[things], eye[:2])
        ordered = things[paint_order(hides, distance)]  # from the back to the front
        chosen = np.concatenate(
            [self._visible(thing, poses[thing], eye) for thing in ordered] or [np.zeros(0, int)]
        )
        owner = self.owner[chosen]
        yaw = poses[owner, 2]
        world = turn(self.corners[chosen], yaw[:, None])
        world[..., :2] += poses[owner, None, :2]
        corners = _to_camera(world, cam2global)
        normals = turn(self.normals[chosen], yaw)
        colours = _shade(self.colours[chosen], normals, np.linalg.norm(corners.mean(1), axis=-1), self.scene)
        return Polygons(corners, colours, owner, self.solid[chosen])

    def shadows(self, time: float, cam2global: np.ndarray) -> list[np.ndarray]:
        """Shadows on the ground, each (8, 3) in the optical frame: the footprint and where the sun throws the top."""
        poses = self.poses(time)
        things = self._within_view(poses, cam2global)
        base = self._footprints(poses)[things] * 1.0
        sun = self.scene.light.sun
        # Long shadows would reach far from what throws them; a quarter of the height is enough to ground a thing.
        throw = -sun[:2] / sun[2] * self.sizes[things, 2:3].clip(0, 4) * 0.4
        outline = np.concatenate([base, base + throw[:, None]], axis=1)
        flat = np.concatenate([outline, np.zeros((*outline.shape[:2], 1))], axis=-1)
        return list(_to_camera(flat, cam2global))

    def _footprints(self, poses: np.ndarray) -> np.ndarray:
        """Footprints (n, 4, 2) in the global frame, counter-clockwise."""
        return rectangle_corners(poses[:, :2], self.sizes[:, :2], poses[:, 2])

    def _within_view(self, poses: np.ndarray, cam2global: np.ndarray) -> np.ndarray:
        """Indices of things in front of the camera and not too far."""
        centres = np.concatenate([poses[:, :2], self.sizes[:, 2:] / 2], axis=-1)
        x, _, z = _to_camera(centres[:, None], cam2global)[:, 0].T
        # 58 degrees to either side hold the widest camera; a thing's own radius is added on top.
        sideways = np.abs(x) * np.cos(np.deg2rad(58)) - z * np.sin(np.deg2rad(58))
        keep = (z > -self.radius) & (z < _FAR) & (sideways < self.radius)
        return np.flatnonzero(keep)

    def _visible(self, thing: int, pose: np.ndarray, eye: np.ndarray) -> np.ndarray:
        """Polygons of a thing that face the camera, in painting order."""
        mesh = self.scene.things[thing].mesh
        local = turn(np.array([[eye[0] - pose[0], eye[1] - pose[1], eye[2]]]), np.array([-pose[2]]))[0]
        facing = ((local - mesh.polygons[:, 0]) * mesh.normals).sum(-1) > 0
        distance = np.linalg.norm(mesh.bounds.mean(1) - local, axis=-1)
        rank = np.empty(len(distance), dtype=int)
        rank[paint_order(boxes_hide(mesh.bounds, local), distance)] = np.arange(len(distance))
        chosen = np.flatnonzero(facing)
        first = np.searchsorted(self.owner, thing)
        return first + chosen[np.argsort(rank[mesh.part[chosen]], kind='stable')]


class _View:
    """What stays the same for a camera throughout a scene: the ground is flat and the camera fixed to the vehicle."""

    def __init__(self, camera: Camera, scene: Scene) -> None:
        self.camera, self.scene = camera, scene
        # Drawn at twice the size and averaged: smooth edges at a price small pictures can pay.
        self.zoom = 2 if camera.width <= 800 else 1
        self.size = (camera.width * self.zoom, camera.height * self.zoom)
        self.intrinsic = _zoomed(camera.intrinsic, self.zoom)
        # a homography (3, 3) from pixels to the ground plane of the ego frame (x, y, 1)
        ego2cam = np.linalg.inv(camera.cam2ego)
        self.pixel2ego = np.linalg.inv(self.intrinsic @ ego2cam[:3][:, [0, 1, 3]])
        distance = _ground_distance(self.pixel2ego, camera.cam2ego, self.size)
        self.sky = _sky(scene, self.size, distance)
        self.bands = _texture_bands(distance)
        self.far, self.haze = _haze(distance)
        self._scratch = np.zeros(self.size[::-1], dtype=np.uint8)

    def background(self, ego: np.ndarray) -> np.ndarray:
        """Sky and ground (H, W, 4) uint8 with the ego vehicle at pose (3,); the last channel is zero."""
        canvas = self.sky.copy()
        ego2global = planar_pose(*ego)[np.ix_([0, 1, 3], [0, 1, 3])]
        for first, last, level in self.bands:
            texture = self.scene.ground.levels[level]
            shift = np.array([[1, 0, 0], [0, 1, first], [0, 0, 1.0]])
            pixel2texel = texel_transform(level) @ ego2global @ self.pixel2ego @ shift
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            # Mirrored where the texture ends; the haze hides that.
            cv2.warpPerspective(
                texture,
                pixel2texel,
                (self.size[0], last - first),
                canvas[first:last],
                flags,
                cv2.BORDER_REFLECT,
            )
        canvas[self.far] = cv2.blendLinear(canvas[self.far], self.sky[self.far], 1 - self.haze, self.haze)
        canvas[..., 3] = 0
        return canvas

    def cast_shadows(self, canvas: np.ndarray, shadows: list[np.ndarray]) -> None:
        """Darken the ground under things, in place."""
        mask = self._scratch
        for outline in shadows:
            corners = _clip(outline[_hull(outline)]) if len(outline) else outline
            if len(corners) >= 3:
                cv2.fillConvexPoly(mask, self._project(corners), 1, cv2.LINE_8, _SHIFT)
        dark = cv2.convertScaleAbs(canvas, alpha=_SHADOW)
        cv2.copyTo(dark, mask, canvas)
        mask[:] = 0

    def paint(self, canvas: np.ndarray, polygons: Polygons, count: int) -> np.ndarray:
        """Paint polygons in place, owner + 1 into the last channel; returns (count,) pixels of each thing alone."""
        depth = polygons.corners[..., 2]
        cut = depth.min(1) <= NEAR
        points = self._project(np.where(cut[:, None, None], 1.0, polygons.corners))
        colours = np.column_stack([polygons.colours, polygons.owner + 1]).tolist()
        silhouette, whole = self._scratch, np.zeros(count)
        for index, owner in enumerate(polygons.owner):
            corners = self._project(_clip(polygons.corners[index])) if cut[index] else points[index]
            if len(corners):
                cv2.fillConvexPoly(canvas, corners, colours[index], cv2.LINE_8, _SHIFT)
                if polygons.solid[index]:
                    cv2.fillConvexPoly(silhouette, corners, 1, cv2.LINE_8, _SHIFT)
            # The polygons of a thing are consecutive: after the last one its silhouette is complete.
            if index + 1 == len(points) or polygons.owner[index + 1] != owner:
                whole[owner] = cv2.countNonZero(silhouette)
                silhouette[:] = 0
        return whole

    def develop(self, canvas: np.ndarray, whole: np.ndarray) -> Picture:
        """Average the canvas down to the image and count what shows."""
        marks = cv2.extractChannel(canvas, 3)
        seen = np.bincount(marks.ravel(), minlength=len(whole) + 1)[1:]
        image = cv2.cvtColor(canvas, cv2.COLOR_BGRA2BGR)
        if self.zoom > 1:
            image = cv2.resize(image, (self.camera.width, self.camera.height), interpolation=cv2.INTER_AREA)
        owner = marks[:: self.zoom, :: self.zoom].astype(np.int16) - 1
        return Picture(image, owner, seen / self.zoom**2, whole / self.zoom**2)

    def _project(self, corners: np.ndarray) -> np.ndarray:
        """Optical frame (..., 3) to fixed-point pixels (..., 2) int32 of the enlarged image."""
        scale = 2.0**_SHIFT
        u = corners[..., 0] / corners[..., 2] * self.intrinsic[0, 0] + self.intrinsic[0, 2]
        v = corners[..., 1] / corners[..., 2] * self.intrinsic[1, 1] + self.intrinsic[1, 2]
        return np.rint(np.stack([u, v], axis=-1) * scale).astype(np.int32)


def _to_camera(points: np.ndarray, cam2global: np.ndarray) -> np.ndarray:
    """Global points (..., 3) to the optical frame of a camera at pose (4, 4)."""
    offset = points - cam2global[:3, 3]
    return rotate(offset, cam2global[:3, :3].T)


def _shade(colours: np.ndarray, normals: np.ndarray, distance: np.ndarray, scene: Scene) -> np.ndarray:
    """Lambertian shading and a little haze; all arguments have one row per polygon, colours are BGR."""
    light = scene.light
    facing = (normals * light.sun).sum(-1).clip(0, None)
    # Light from the ground and the sky is not the same, so that walls in the shade differ from roofs.
    lit = (light.ambient + 0.08 * normals[:, 2] + (1 - light.ambient) * 1.15 * facing)[:, None]
    haze = ((distance - 20) / 160).clip(0, 0.45)[:, None]
    return ((colours * lit * light.tint) * (1 - haze) + light.haze * haze).clip(0, 255)


def _clip(corners: np.ndarray) -> np.ndarray:
    """Cut a convex polygon (K, 3) off at the near plane; returns (m, 3) with m = 0 when all of it is too near."""
    kept = []
    for here, following in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if here[2] > NEAR:
            kept.append(here)
        if (here[2] > NEAR) != (following[2] > NEAR):
            share = (NEAR - here[2]) / (following[2] - here[2])
            kept.append(here + share * (following - here))
    return np.array(kept).reshape(-1, 3)


def _hull(outline: np.ndarray) -> np.ndarray:
    """Indices of the convex hull of coplanar ground points (8, 3) in the optical frame."""
    # x and z span the ground plane of any camera that does not look straight down.
    flat = np.ascontiguousarray(outline[:, [0, 2]], dtype=np.float32)
    return cv2.convexHull(flat, returnPoints=False)[:, 0]


def _zoomed(intrinsic: np.ndarray, zoom: int) -> np.ndarray:
    """Intrinsics (3, 3) of the same picture with ``zoom`` times as many pixels each way."""
    scaled = intrinsic.copy()
    scaled[:2] *= zoom
    scaled[:2, 2] += (zoom - 1) / 2
    return scaled


def _ground_distance(pixel2ego: np.ndarray, cam2ego: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Distance (H, W) in metres from the camera to the ground seen by each pixel; infinite above the horizon."""
    columns = np.arange(size[0], dtype=np.float32)
    rows = np.arange(size[1], dtype=np.float32)[:, None]
    x, y, w = (columns * a + (rows * b + c) for a, b, c in pixel2ego.astype(np.float32))
    # A homography is known up to its sign: the lowest row surely sees the ground.
    ahead = w * np.sign(w[-1, size[0] // 2]) > 1e-9
    w = np.where(ahead, w, 1)
    distance = np.hypot(x / w - np.float32(cam2ego[0, 3]), y / w - np.float32(cam2ego[1, 3]))
    return np.where(ahead, distance, np.inf)


def _texture_bands(distance: np.ndarray) -> list[tuple[int, int, int]]:
    """Rows of ground as (first, last, texture level), from the distance (H, W) of the ground: far rows need less."""
    nearest = distance.min(1)
    level = np.searchsorted(_LEVEL_BELOW, nearest)
    bands = []
    for index in range(LEVELS):
        rows = np.flatnonzero((nearest < _HAZE[1]) & (level == index))
        if len(rows):
            bands.append((int(rows[0]), int(rows[-1]) + 1, index))
    return bands


def _haze(distance: np.ndarray) -> tuple[slice, np.ndarray]:
    """Rows of ground that fade into the horizon, and how much (h, W) float32, from its distance (H, W)."""
    rows = np.flatnonzero((distance.min(1) < _HAZE[1]) & (distance.max(1) > _HAZE[0]))
    far = slice(int(rows[0]), int(rows[-1]) + 1)
    return far, ((distance[far] - _HAZE[0]) / (_HAZE[1] - _HAZE[0])).clip(0, 1).astype(np.float32)


def _sky(scene: Scene, size: tuple[int, int], distance: np.ndarray) -> np.ndarray:
    """Sky (H, W, 4) uint8, from haze at the horizon to blue above; haze below."""
    horizon = max(int(np.isinf(distance).all(1).sum()), 1)
    height = ((horizon - np.arange(size[1])) / (0.55 * size[1])).clip(0, 1) ** 0.8
    rows = scene.light.haze + height[:, None] * (scene.light.sky - scene.light.haze)
    sky = np.zeros((size[1], size[0], 4), dtype=np.uint8)
    sky[..., :3] = rows[:, None].clip(0, 255)
    return sky

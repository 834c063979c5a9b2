"""A spinning LiDAR, cast against the ground and the parts of every thing."""

from dataclasses import dataclass

import numpy as np

from projects.mmdet3d_plugin.common.geometry import planar_pose
from projects.mmdet3d_plugin.worlds.ground import EXTENT, RESOLUTION
from projects.mmdet3d_plugin.worlds.motion import rotate
from projects.mmdet3d_plugin.worlds.scene import Scene

REACH = 75.0  # metres
_RANGE_NOISE = 0.015  # metres
_LOST = 0.02  # share of returns that never come back


@dataclass(frozen=True)
class Scanner:
    """How a LiDAR scans.

    Attributes:
        elevations: (R,) degrees of the rings, the lowest first.
        turn: number of columns in a full turn.
        columns: number of columns that it looks at, counter-clockwise.
        first: number of the first of them; column 0 looks along +x.
    """

    elevations: tuple[float, ...]
    turn: int
    columns: int
    first: int = 0

    def rays(self) -> np.ndarray:
        """Unit directions (columns, R, 3) in the LiDAR frame."""
        azimuth = (np.arange(self.columns) + self.first) * (2 * np.pi / self.turn)
        elevation = np.deg2rad(np.array(self.elevations))
        flat = np.cos(elevation)
        up = np.tile(np.sin(elevation), (self.columns, 1))
        return np.stack([np.cos(azimuth)[:, None] * flat, np.sin(azimuth)[:, None] * flat, up], -1)


# 32 rings all around, as on the nuScenes cars
SPARSE = Scanner(tuple(np.linspace(-30.67, 10.67, 32).tolist()), turn=720, columns=720)
# The 64 rings of KITTI's scanner, closer together above; only ahead, where its camera looks and labels are
DENSE = Scanner(
    tuple(np.concatenate([np.arange(-24.33, -8.5, 0.5), -8.33 + np.arange(32) / 3]).tolist()),
    turn=2000,
    columns=500,
    first=-250,
)


@dataclass(frozen=True)
class Sweep:
    """One turn of the LiDAR.

    Attributes:
        points: (N, 5) float32 x, y, z in metres (LiDAR frame), intensity 0..255, number of the ring.
        hits: (n,) number of points on each thing of the scene.
    """

    points: np.ndarray
    hits: np.ndarray


class Lidar:
    """Casts the rays of one scene's LiDAR.

    Args:
        scene: what to cast against.
        scanner: how it scans.
    """

    def __init__(self, scene: Scene, scanner: Scanner = SPARSE) -> None:
        self.scene, self.scanner = scene, scanner
        self._rays = scanner.rays()
        self._colour = [thing.mesh.colours[thing.mesh.solid].mean() for thing in scene.things]

    def cast(self, time: float, rng: np.random.Generator) -> Sweep:
        """One sweep, all of it at one instant.

        Args:
            time: seconds since the start of the scene.
            rng: source of range noise and lost returns.

        Returns:
            The sweep.
        """
        lidar2global = planar_pose(*self.scene.ego.at(time)) @ self.scene.rig.lidar2ego
        rays = rotate(self._rays, lidar2global[:3, :3])
        eye = lidar2global[:3, 3]
        distance, intensity = self._hit_ground(rays, eye)
        owner = np.full(distance.shape, -1)
        for index in range(len(self.scene.things)):
            self._hit_thing(index, time, rays, lidar2global, (distance, intensity, owner))
        returned = (distance < REACH) & (rng.random(distance.shape) >= _LOST)
        distance = distance + rng.normal(0, _RANGE_NOISE, distance.shape)
        positions = self._rays[returned] * distance[returned][:, None]
        rings = np.broadcast_to(np.arange(distance.shape[1]), distance.shape)
        points = np.column_stack([positions, intensity[returned], rings[returned]]).astype(np.float32)
        return Sweep(points, np.bincount(owner[returned] + 1, minlength=len(self.scene.things) + 1)[1:])

    def _hit_ground(self, rays: np.ndarray, eye: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distance and intensity (columns, rings) of the ground along each ray; infinite where it goes up."""
        with np.errstate(divide='ignore'):
            distance = np.where(rays[..., 2] < -1e-6, -eye[2] / rays[..., 2], np.inf)
        distance[distance > REACH] = np.inf
        reach = np.where(np.isfinite(distance), distance, 0)
        spot = eye[:2] + rays[..., :2] * reach[..., None]
        column = (spot[..., 0] / RESOLUTION).astype(int).clip(0, int(EXTENT / RESOLUTION) - 1)
        row = ((EXTENT - spot[..., 1]) / RESOLUTION).astype(int).clip(0, int(EXTENT / RESOLUTION) - 1)
        return distance, self.scene.ground.levels[0][row, column, 1] * 0.2

    def _hit_thing(
        self,
        index: int,
        time: float,
        rays: np.ndarray,
        lidar2global: np.ndarray,
        nearest: tuple[np.ndarray, np.ndarray, np.ndarray],
    ) -> None:
        """Shorten the rays that hit a thing; ``nearest`` is (distance, intensity, owner), changed in place."""
        thing = self.scene.things[index]
        x, y, yaw = thing.motion.at(time)
        eye = lidar2global[:3, 3]
        if np.hypot(x - eye[0], y - eye[1]) > REACH:
            return
        columns = _window(self.scanner, thing.size, (x, y, yaw), lidar2global)
        turn = planar_pose(0, 0, yaw)[:3, :3]
        local_eye = rotate(eye - np.array([x, y, 0]), turn.T)
        along = _enter(thing.mesh.bounds, local_eye, rotate(rays[columns], turn.T))
        distance, intensity, owner = nearest
        closer = along < distance[columns]
        distance[columns] = np.where(closer, along, distance[columns])
        intensity[columns] = np.where(closer, self._colour[index] * 0.4, intensity[columns])
        owner[columns] = np.where(closer, index, owner[columns])


def _window(
    scanner: Scanner,
    size: tuple[float, float, float],
    pose: tuple[float, float, float],
    lidar2global: np.ndarray,
) -> np.ndarray:
    """Columns whose rays may hit a box of a size (length, width, height) at a planar pose (x, y, yaw)."""
    corners = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]) * np.array(size[:2])
    foot = np.concatenate([corners, np.zeros((4, 1))], axis=-1)
    box = np.concatenate([foot, foot + np.array([0, 0, size[2]])])
    world = rotate(box, planar_pose(*pose)[:3, :3]) + np.array([pose[0], pose[1], 0])
    local = rotate(world - lidar2global[:3, 3], lidar2global[:3, :3].T)
    centre = local.mean(0)
    middle = np.arctan2(centre[1], centre[0])
    spread = (np.arctan2(local[:, 1], local[:, 0]) - middle + np.pi) % (2 * np.pi) - np.pi
    step = 2 * np.pi / scanner.turn
    first = int(np.floor((middle + spread.min()) / step))
    last = int(np.ceil((middle + spread.max()) / step))
    columns = (np.arange(first, last + 1) - scanner.first) % scanner.turn
    return columns[columns < scanner.columns]


def _enter(bounds: np.ndarray, eye: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Where rays enter the nearest of some boxes.

    Args:
        bounds: (M, 2, 3) axis-aligned boxes.
        eye: (3,) where the rays start, outside every box.
        rays: (..., 3) directions.

    Returns:
        (...) distance, infinite for a miss.
    """
    shape = (len(bounds),) + (1,) * (rays.ndim - 1)
    entry, leave = np.zeros((len(bounds), *rays.shape[:-1])), np.full((len(bounds), *rays.shape[:-1]), np.inf)
    for axis in range(3):
        inverse = 1 / np.where(np.abs(rays[..., axis]) < 1e-9, 1e-9, rays[..., axis])
        one = (bounds[:, 0, axis] - eye[axis]).reshape(shape) * inverse
        two = (bounds[:, 1, axis] - eye[axis]).reshape(shape) * inverse
        entry = np.maximum(entry, np.minimum(one, two))
        leave = np.minimum(leave, np.maximum(one, two))
    return np.where((entry <= leave) & (entry > 0), entry, np.inf).min(0)

"""The textured ground of a scene: a road along the ego path, a crossing road, and noise so that motion shows."""

import cv2
import numpy as np

from projects.mmdet3d_plugin.worlds.motion import Motion

EXTENT = 200.0  # metres; a scene lives in the square [0, EXTENT] x [0, EXTENT]
RESOLUTION = 0.1  # metres per texel, also what the devkit takes a map mask to have
LEVELS = 4
LANE = 3.5
_SIZE = int(EXTENT / RESOLUTION)
_NOISE_ZERO = 48
_SOILS = ((112, 118, 92), (126, 122, 112), (134, 124, 100), (104, 116, 104))


class Ground:
    """Texture of the plane z = 0 and where the road is.

    Texel (column, row) = (x, EXTENT - y) / RESOLUTION: north is up, as in a nuScenes map mask.

    Args:
        ego: motion of the ego vehicle, which the road follows.
        rng: source of the variation.

    Attributes:
        levels: textures (S / 2^i, S / 2^i, 4) uint8 BGR and a channel without meaning, each half as fine as the one before.
        road: (S, S) uint8, 255 on the road.
    """

    def __init__(self, ego: Motion, rng: np.random.Generator) -> None:
        lines = _road_lines(ego, rng)
        self.road = np.zeros((_SIZE, _SIZE), dtype=np.uint8)
        for line, width in lines:
            cv2.polylines(self.road, [to_texels(line)], False, 255, int(width / RESOLUTION), cv2.LINE_8)
        self.levels = _pyramid(self._texture(lines, rng))

    def on_road(self, points: np.ndarray) -> np.ndarray:
        """Whether global points (n, 2) are on the road; returns (n,) bool, false outside the square."""
        column, row = to_texels(points).T
        inside = (column >= 0) & (row >= 0) & (column < _SIZE) & (row < _SIZE)
        return inside & (self.road[row.clip(0, _SIZE - 1), column.clip(0, _SIZE - 1)] > 0)

    def _texture(self, lines: list[tuple[np.ndarray, float]], rng: np.random.Generator) -> np.ndarray:
        """Full-resolution texture (S, S, 4) uint8."""
        soil = np.array(_SOILS[rng.integers(len(_SOILS))])[::-1]
        asphalt = np.full(3, rng.uniform(70, 96)) + np.array([4, 0, -2])
        texture = np.empty((_SIZE, _SIZE, 3), dtype=np.uint8)
        texture[:] = (soil - _NOISE_ZERO).astype(np.uint8)
        for colour, verge in ((soil * 0.4 + 95, 4.0), (asphalt, 0.0)):
            for line, width in lines:
                thickness = int((width + verge) / RESOLUTION)
                cv2.polylines(
                    texture, [to_texels(line)], False, (colour - _NOISE_ZERO).tolist(), thickness, cv2.LINE_8
                )
        texture = cv2.add(texture, cv2.merge([_noise(rng)] * 3))
        for line, width in lines:
            _paint_lanes(texture, line, width)
        return cv2.cvtColor(texture, cv2.COLOR_BGR2BGRA)


def to_texels(points: np.ndarray) -> np.ndarray:
    """Global points (n, 2) in metres to int32 texels (n, 2) of the finest level.

    Example:
        >>> to_texels(np.array([[0.0, 0.0]])).shape
        (1, 2)
    """
    flipped = np.stack([points[:, 0], EXTENT - points[:, 1]], axis=-1)
    return np.rint(flipped / RESOLUTION).astype(np.int32)


def texel_transform(level: int) -> np.ndarray:
    """Homography (3, 3) from global (x, y, 1) in metres to (column, row, 1) of a texture level."""
    scale = 1 / (RESOLUTION * 2**level)
    # Texel centres are whole numbers, hence the half texel.
    return np.array([[scale, 0, -0.5], [0, -scale, EXTENT * scale - 0.5], [0, 0, 1]], dtype=np.float64)


def _road_lines(ego: Motion, rng: np.random.Generator) -> list[tuple[np.ndarray, float]]:
    """Centre lines (n, 2) and widths in metres: the ego's road (it keeps to the right lane) and a crossing one."""
    # A pretended speed, so that the road goes on where a slow or parked ego vehicle does not.
    pace = max(ego.speed, 4.0)
    rate = ego.yaw_rate * pace / ego.speed if ego.speed > 0 else 0.0
    poses = Motion(ego.x, ego.y, ego.yaw, pace, rate).at(np.linspace(-60, 100, 80) / pace)
    left = np.stack([-np.sin(poses[:, 2]), np.cos(poses[:, 2])], axis=-1)
    main = poses[:, :2] + left * (LANE / 2)
    middle = main[rng.integers(30, 60)]
    angle = ego.yaw + np.pi / 2 + rng.uniform(-0.4, 0.4)
    reach = np.linspace(-EXTENT, EXTENT, 3)[:, None]
    crossing = middle + reach * np.array([[np.cos(angle), np.sin(angle)]])
    return [(crossing, 2 * LANE), (main, rng.choice([2, 4]) * LANE + 1)]


def _paint_lanes(texture: np.ndarray, line: np.ndarray, width: float) -> None:
    """Edge lines and a dashed middle along a centre line (n, 2), in place."""
    along = np.gradient(line, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    left = np.stack([-along[:, 1], along[:, 0]], axis=-1)
    for side in (-0.5, 0.5):
        edge = to_texels(line + left * (side * (width - 0.5)))
        cv2.polylines(texture, [edge], False, (196, 200, 200), 2, cv2.LINE_AA)
    distance = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    starts = np.arange(0, distance[-1] - 3, 6.0)
    for start in starts:
        dash = [np.interp([start, start + 2.5], distance, line[:, axis]) for axis in (0, 1)]
        ends = to_texels(np.stack(dash, axis=-1))
        cv2.line(texture, ends[0].tolist(), ends[1].tolist(), (120, 200, 220), 2, cv2.LINE_AA)


def _noise(rng: np.random.Generator) -> np.ndarray:
    """Brightness offsets plus _NOISE_ZERO (S, S) uint8: broad stains, blocks of four metres, and grain."""
    block = int(4 / RESOLUTION)
    coarse = cv2.resize(
        rng.normal(0, 9, (24, 24)), (_SIZE // block, _SIZE // block), interpolation=cv2.INTER_LINEAR
    )
    coarse = (coarse + rng.normal(0, 5, coarse.shape)).clip(-22, 22).astype(np.int8)
    grain = rng.normal(_NOISE_ZERO, 8, (_SIZE // 4, _SIZE // 4)).clip(22, 2 * _NOISE_ZERO).astype(np.uint8)
    return np.tile(grain, (4, 4)) + cv2.resize(coarse, (_SIZE, _SIZE), interpolation=cv2.INTER_NEAREST).view(
        np.uint8
    )


def _pyramid(texture: np.ndarray) -> list[np.ndarray]:
    """The texture and its successive halvings."""
    levels = [texture]
    for _ in range(LEVELS - 1):
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return levels

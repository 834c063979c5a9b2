"""What exists in a scene and how it moves, before any sensor looks at it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from projects.mmdet3d_plugin.common.geometry import rectangle_corners
from projects.mmdet3d_plugin.worlds.catalog import DISTRACTORS, NUSCENES, ObjectClass, Population
from projects.mmdet3d_plugin.worlds.ground import EXTENT, Ground
from projects.mmdet3d_plugin.worlds.mesh import Mesh
from projects.mmdet3d_plugin.worlds.motion import Motion
from projects.mmdet3d_plugin.worlds.rig import Rig, make_rig
from projects.mmdet3d_plugin.worlds.shapes import make_mesh

FRAME_INTERVAL = 0.5  # seconds between keyframes
EGO_SIZE = (4.1, 1.75)  # length, width in metres
_EGO_CENTRE_AHEAD = 1.3  # the ego frame sits on the rear axle
_TRIES = 40
_GAP = 0.35  # metres kept between any two things


@dataclass(frozen=True)
class Thing:
    """One object or distractor.

    Attributes:
        kind: what it looks like.
        labelled: whether it is annotated.
        category: what its annotations call it, '' for none.
        size: (length, width, height), metres.
        motion: where its bottom centre is, global frame.
        mesh: what it looks like.
    """

    kind: str
    labelled: bool
    size: tuple[float, float, float]
    motion: Motion
    mesh: Mesh
    category: str = ''

    @property
    def moving(self) -> bool:
        """Whether it moves at all."""
        return self.motion.speed > 0


@dataclass(frozen=True)
class Light:
    """Light and weather of a scene.

    Attributes:
        sun: (3,) unit vector towards the sun, global frame.
        ambient: share of the light that has no direction.
        tint: (3,) BGR factors.
        sky: (3,) BGR of the zenith.
        haze: (3,) BGR of the horizon.
    """

    sun: np.ndarray
    ambient: float
    tint: np.ndarray
    sky: np.ndarray
    haze: np.ndarray


@dataclass(frozen=True)
class Scene:
    """A whole scene, in a global frame of its own (z up, metres, the square [0, EXTENT]^2).

    Attributes:
        name: official nuScenes scene name.
        times: (frames,) seconds of the keyframes.
        ego: motion of the ego frame (rear axle, on the ground).
        things: objects and distractors.
        rig: the sensors.
        ground: its texture.
        light: its light.
        noise: seed of the sensor noise.
    """

    name: str
    times: np.ndarray
    ego: Motion
    things: tuple[Thing, ...]
    rig: Rig
    ground: Ground
    light: Light
    noise: np.random.SeedSequence


def build_scene(
    name: str,
    seed: np.random.SeedSequence,
    frames: int,
    size: tuple[int, int],
    population: Population = NUSCENES,
    rig: Callable[[int, int, np.random.Generator], Rig] = make_rig,
) -> Scene:
    """Invent a scene.

    Args:
        name: its name.
        seed: fixes everything in it.
        frames: number of keyframes.
        size: (width, height) of the images, pixels.
        population: what it is made of.
        rig: makes the sensors for a width, a height and a source of variation.

    Returns:
        The scene.
    """
    layout_seed, rig_seed, ground_seed, noise_seed = seed.spawn(4)
    rng = np.random.default_rng(layout_seed)
    times = np.arange(frames) * FRAME_INTERVAL
    ego = _ego_motion(rng, float(times[-1]))
    ground = Ground(ego, np.random.default_rng(ground_seed))
    placer = _Placer(ego, times, ground, rng, population)
    placer.place_objects()
    placer.place_distractors()
    return Scene(
        name=name,
        times=times,
        ego=ego,
        things=tuple(placer.things),
        rig=rig(*size, np.random.default_rng(rig_seed)),
        ground=ground,
        light=_light(rng),
        noise=noise_seed,
    )


def _ego_motion(rng: np.random.Generator, duration: float) -> Motion:
    """Straight on, a turn, or (seldom) standing still; half-way it passes the middle of the square."""
    style = rng.choice(['straight', 'left', 'right', 'parked'], p=[0.5, 0.2, 0.2, 0.1])
    speed = 0.0 if style == 'parked' else rng.uniform(3.0, 7.0)
    bend = rng.uniform(0.08, 0.25) if style in ('left', 'right') else rng.uniform(-0.01, 0.01)
    yaw_rate = 0.0 if style == 'parked' else float(-abs(bend) if style == 'right' else bend)
    middle = EXTENT / 2 + rng.uniform(-5, 5, 2)
    motion = Motion(
        float(middle[0]), float(middle[1]), float(rng.uniform(-np.pi, np.pi)), float(speed), yaw_rate
    )
    return motion.through(duration / 2)


def _light(rng: np.random.Generator) -> Light:
    azimuth, height = rng.uniform(-np.pi, np.pi), rng.uniform(0.6, 1.1)
    sun = np.array([np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)])
    haze = np.array([214, 208, 202]) + rng.uniform(-14, 14)
    sky = np.array([206, 158, 112]) + rng.uniform(-20, 20, 3)
    tint = rng.uniform(0.88, 1.08) * (1 + rng.uniform(-0.04, 0.04, 3))
    return Light(sun, float(rng.uniform(0.62, 0.76)), tint, sky.clip(0, 255), haze.clip(0, 255))


class _Placer:
    """Puts things where they never touch each other or the ego vehicle."""

    def __init__(
        self,
        ego: Motion,
        times: np.ndarray,
        ground: Ground,
        rng: np.random.Generator,
        population: Population,
    ) -> None:
        self.ego, self.times, self.ground, self.rng = ego, times, ground, rng
        self.population = population
        self.things: list[Thing] = []
        # Half-way instants and a margin at either end: cameras trigger a little before the keyframe.
        self._instants = np.arange(-0.25, times[-1] + 0.26, FRAME_INTERVAL / 2)
        path = ego.at(self._instants)
        centre = path[:, :2] + _EGO_CENTRE_AHEAD * np.stack([np.cos(path[:, 2]), np.sin(path[:, 2])], -1)
        # Generous, so that nothing fills a camera's whole view.
        ego_box = rectangle_corners(centre, (EGO_SIZE[0] + 5.0, EGO_SIZE[1] + 3.0), path[:, 2])
        self._taken = [ego_box]

    def place_objects(self) -> None:
        """Labelled objects, then what looks like them."""
        population = self.population
        drawn = self._draw(population.classes, population.drawn)
        for spec in [*population.classes, *drawn] if population.one_of_each else drawn:
            self._place_object(spec)
        for spec in self._draw(population.clutter, population.clutter_drawn):
            self._place_object(spec)

    def place_distractors(self) -> None:
        """Poles, signs, trees and bushes close by, buildings behind them."""
        for kind, (low, high) in self.population.distractors.items():
            for _ in range(self.rng.integers(low, high)):
                self._place_distractor(kind)

    def _draw(self, specs: Sequence[ObjectClass], count: tuple[int, int]) -> list[ObjectClass]:
        """Some classes by weight, how many is between ``count``."""
        if not specs:
            return []
        weights = np.array([spec.weight for spec in specs])
        chosen = self.rng.choice(len(specs), size=self.rng.integers(*count), p=weights / weights.sum())
        return [specs[index] for index in chosen]

    def _place_object(self, spec: ObjectClass) -> None:
        moving = bool(self.rng.random() < spec.moving)
        length, width, height = spec.size
        size = _vary((length, width, height if moving else height * spec.still_height), spec.spread, self.rng)
        for _ in range(_TRIES):
            motion = self._propose(spec.reach, moving, spec)
            if self._fits(motion, size):
                mesh = make_mesh(spec.name, size, self.rng, moving)
                self.things.append(Thing(spec.name, bool(spec.category), size, motion, mesh, spec.category))
                return

    def _place_distractor(self, kind: str) -> None:
        size = _vary(DISTRACTORS[kind], 0.2, self.rng)
        reach = (24.0, 70.0) if kind == 'building' else (7.0, 50.0)
        for _ in range(_TRIES):
            motion = self._propose(reach, moving=False, spec=None)
            corners = rectangle_corners(motion.at(0.0)[:2], size[:2], motion.at(0.0)[2])
            if not self.ground.on_road(corners).any() and self._fits(motion, size):
                self.things.append(Thing(kind, False, size, motion, make_mesh(kind, size, self.rng)))
                return

    def _propose(self, reach: tuple[float, float], moving: bool, spec: ObjectClass | None) -> Motion:
        """A motion that is at a distance within ``reach`` of the ego vehicle at some instant of the scene."""
        instant = float(self.rng.uniform(0, self.times[-1]))
        x, y, yaw = self.ego.at(instant)
        widest = self.population.bearing
        distance, bearing = self.rng.uniform(*reach), self.rng.uniform(-widest, widest)
        if widest < np.pi:
            bearing += yaw
        heading = self.rng.uniform(-np.pi, np.pi)
        if spec is None or spec.follows_road:
            quarter = self.rng.choice([0, 1, 2, 3], p=[0.38, 0.16, 0.3, 0.16])
            heading = yaw + quarter * np.pi / 2 + self.rng.normal(0, 0.1)
        speed = self.rng.uniform(*spec.speed) if moving else 0.0
        turn = self.rng.uniform(-0.08, 0.08) if moving else 0.0
        start = Motion(x + distance * np.cos(bearing), y + distance * np.sin(bearing), heading, speed, turn)
        return start.through(instant)

    def _fits(self, motion: Motion, size: tuple[float, float, float]) -> bool:
        """Whether it keeps clear of everything placed so far; if so its place is taken."""
        path = motion.at(self._instants)
        box = rectangle_corners(path[:, :2], (size[0] + _GAP, size[1] + _GAP), path[:, 2])
        if overlaps(box[None], np.stack(self._taken)).any():
            return False
        self._taken.append(box)
        return True


def _vary(
    size: tuple[float, float, float], spread: float, rng: np.random.Generator
) -> tuple[float, float, float]:
    """A size around the typical one, rounded to millimetres as annotations are."""
    factors = np.clip(rng.normal(1, spread, 3), 1 - 2 * spread, 1 + 2 * spread)
    return tuple(np.round(np.array(size) * factors, 3).tolist())


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Whether rectangles overlap (separating axes).

    Args:
        first: (..., 4, 2) corners in order.
        second: (..., 4, 2), broadcastable against ``first``.

    Returns:
        (...) bool.

    Example:
        >>> square = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
        >>> bool(overlaps(square, square + 0.5)), bool(overlaps(square, square + 2))
        (True, False)
    """
    first, second = np.broadcast_arrays(first, second)
    apart = np.zeros(first.shape[:-2], dtype=bool)
    for box in (first, second):
        for edge in (box[..., 1, :] - box[..., 0, :], box[..., 2, :] - box[..., 1, :]):
            axis = edge[..., None, :]
            a, b = (first * axis).sum(-1), (second * axis).sum(-1)
            apart |= (a.max(-1) < b.min(-1)) | (b.max(-1) < a.min(-1))
    return ~apart

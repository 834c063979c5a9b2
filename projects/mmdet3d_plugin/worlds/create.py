"""Make a synthetic dataset, in the layout of nuScenes, KITTI or COCO."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from projects.mmdet3d_plugin.command_line.parsers import parse_create_synthetic
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.worlds.catalog import NUSCENES
from projects.mmdet3d_plugin.worlds.lidar import Lidar
from projects.mmdet3d_plugin.worlds.renderer import Renderer
from projects.mmdet3d_plugin.worlds.scene import FRAME_INTERVAL, build_scene
from projects.mmdet3d_plugin.worlds.worlds import STAMP, World, WorldError, build_world
from projects.mmdet3d_plugin.worlds.writers.coco_writer import CocoSpec, CocoWorld
from projects.mmdet3d_plugin.worlds.writers.kitti_writer import IMAGE_SIZE, create_kitti_world
from projects.mmdet3d_plugin.worlds.writers.nuscenes_writer import (
    Rows,
    SceneWriter,
    common_rows,
    write_tables,
)

__all__ = ['STAMP', 'WorldError', 'create_world', 'main']

GENERATION = 2  # raise it when the same arguments give other bytes
TRAIN_SHARE = 0.8
_SIZE = (400, 225)
_SIZE_LIMITS = (64, 4096)
_MAX_FRAMES = 40
_MAX_SWEEPS = 9
_REACH_LIMITS = (12.0, 60.0)  # metres: the largest objects start at 9, and nothing is annotated beyond 60
_PACE_LIMITS = (0.1, 2.0)  # of an object's speed: beyond, nothing stays in sight for a scene


@dataclass(frozen=True)
class WorldSpec:
    """Everything that decides the bytes of a world.

    Attributes:
        scenes: number of scenes.
        seed: of the world.
        width: of the images, pixels.
        height: of the images, pixels.
        frames: keyframes per scene, two a second.
        sweeps: LiDAR sweeps between two keyframes.
        version: name of the table folder.
        generation: of this generator.
        reach: greatest distance to the ego vehicle at which an object is placed, metres; None leaves it to the class.
        pace: of moving objects, relative to their usual speed; None is the usual one.
    """

    scenes: int
    seed: int
    width: int
    height: int
    frames: int = 10
    sweeps: int = 0
    version: str = 'v1.0-trainval'
    generation: int = GENERATION
    reach: float | None = None
    pace: float | None = None


def create_world(
    out: str | Path,
    scenes: int,
    seed: int,
    size: tuple[int, int],
    frames: int = 10,
    sweeps: int = 0,
    version: str = 'v1.0-trainval',
    progress: bool = True,
    workers: int = 2,
    force: bool = False,
    reach: float | None = None,
    pace: float | None = None,
) -> bool:
    """Make a world, or finish one that was interrupted; a finished one is left alone.

    Args:
        out: folder of the dataset.
        scenes: how many; the first 80 % are named after official training scenes, the others after validation scenes.
        seed: of the world.
        size: (width, height) of the images, pixels.
        frames: keyframes per scene, two a second.
        sweeps: LiDAR sweeps between two keyframes (nuScenes has nine).
        version: name of the table folder.
        progress: show a progress bar.
        workers: processes; the result does not depend on it.
        force: replace a world that was made with other arguments, or make the same anew.
        reach: greatest distance to the ego vehicle at which an object is placed, metres; by class if not given.
        pace: of moving objects, relative to their usual speed.

    Returns:
        Whether anything had to be done.

    Raises:
        WorldError: when it cannot be made as asked.
    """
    spec = WorldSpec(scenes, seed, size[0], size[1], frames, sweeps, version, reach=reach, pace=pace)
    check_spec(spec, workers)
    return build_world(Path(out), NuScenesWorld(spec, scene_names(scenes)), workers, progress, force)


def create_coco_world(
    out: str | Path,
    scenes: int,
    seed: int,
    size: tuple[int, int],
    frames: int = 1,
    progress: bool = True,
    workers: int = 2,
    force: bool = False,
    reach: float | None = None,
) -> bool:
    """Make a world of images with 2D boxes, or finish one that was interrupted; a finished one is left alone.

    Args:
        out: folder of the dataset.
        scenes: how many; the last fifth is for validation.
        seed: of the world.
        size: (width, height) of the images, pixels.
        frames: moments per scene, each seen by six cameras.
        progress: show a progress bar.
        workers: processes; the result does not depend on it.
        force: replace a world that was made with other arguments, or make the same anew.
        reach: greatest distance to the ego vehicle at which an object is placed, metres; by class if not given.

    Returns:
        Whether anything had to be done.

    Raises:
        WorldError: when it cannot be made as asked.
    """
    check_spec(WorldSpec(scenes, seed, *size, frames, reach=reach), workers)
    world = CocoWorld.of(CocoSpec(scenes, seed, *size, frames, reach))
    return build_world(Path(out), world, workers, progress, force)


@dataclass(frozen=True)
class NuScenesWorld(World):
    """Scenes, joined by the tables of nuScenes."""

    format: ClassVar[str] = 'nuscenes'
    unit: ClassVar[str] = 'scene'
    derived: ClassVar[tuple[str, ...]] = ('nuscenes_infos_*.pkl',)

    def folders(self, spec: dict[str, Any]) -> tuple[str, ...]:
        """Folders that a world of a spec fills."""
        return ('samples', 'sweeps', 'maps', spec['version'])

    def make(self, root: Path, name: str) -> Rows:
        """Make one scene."""
        return make_scene(root, self.spec, name)

    def finish(self, root: Path, parts: list[Rows]) -> None:
        """Join the rows of all scenes into tables."""
        write_tables(root / self.spec.version, [common_rows(), *parts])


def scene_names(count: int) -> list[str]:
    """Official scene names: the first 80 % from ``train``, the others (at least one of several) from ``val``.

    Raises:
        WorldError: when the official splits do not hold as many.

    Example:
        >>> len(scene_names(10))
        10
    """
    from nuscenes.utils.splits import train, val

    training = min(round(TRAIN_SHARE * count), count - 1) if count > 1 else count
    if training > len(train) or count - training > len(val):
        shares = {n: round(TRAIN_SHARE * n) for n in range(1, len(train) + len(val) + 1)}
        most = max(n for n, first in shares.items() if first <= len(train) and n - first <= len(val))
        raise WorldError(
            f'{count} scenes are more than the official splits have names for: ask for at most {most}'
        )
    return train[:training] + val[: count - training]


def make_scene(root: Path, spec: WorldSpec, name: str) -> Rows:
    """Invent one scene, render it and write its files; returns its table rows."""
    population = NUSCENES if spec.reach is None else NUSCENES.within(spec.reach)
    population = population if spec.pace is None else population.at_pace(spec.pace)
    seed = scene_seed(spec.seed, name)
    scene = build_scene(name, seed, spec.frames, (spec.width, spec.height), population)
    renderer, lidar = Renderer(scene), Lidar(scene)
    writer = SceneWriter(root, scene, spec.seed)
    # Two streams: keyframes are the same however many sweeps lie between them.
    noise, sweep_noise = (np.random.default_rng(stream) for stream in scene.noise.spawn(2))
    for frame, time in enumerate(scene.times):
        for part in range(spec.sweeps if frame else 0):
            between = float(time) - FRAME_INTERVAL * (1 - (part + 1) / (spec.sweeps + 1))
            writer.add_sweep(frame, between, lidar.cast(between, sweep_noise))
        pictures = {
            camera.channel: renderer.render(camera, float(time) + camera.delay_us * 1e-6)
            for camera in scene.rig.cameras
        }
        writer.add_frame(frame, pictures, lidar.cast(float(time), noise))
    return writer.finish()


def scene_seed(seed: int, name: str) -> np.random.SeedSequence:
    """Seed of a scene: the same for one world seed and name, whatever else is in the world.

    Example:
        >>> scene_seed(0, 'scene-0001').generate_state(1) == scene_seed(0, 'scene-0001').generate_state(1)
        array([ True])
    """
    return np.random.SeedSequence(seed, spawn_key=(int(name.split('-')[1]),))


def check_spec(spec: WorldSpec, workers: int = 1) -> None:
    """Refuse what cannot be made.

    Raises:
        WorldError: names the option and what it may be.
    """
    if spec.scenes < 1:
        raise WorldError(f'--scenes is {spec.scenes}: ask for at least 1')
    if not 1 <= spec.frames <= _MAX_FRAMES:
        raise WorldError(f'--frames is {spec.frames}: ask for 1 to {_MAX_FRAMES}')
    if not 0 <= spec.sweeps <= _MAX_SWEEPS:
        raise WorldError(f'--sweeps is {spec.sweeps}: ask for 0 to {_MAX_SWEEPS}')
    if spec.seed < 0:
        raise WorldError(f'--seed is {spec.seed}: it must not be negative')
    if workers < 1:
        raise WorldError(f'--workers is {workers}: ask for at least 1')
    low, high = _REACH_LIMITS
    if spec.reach is not None and not low <= spec.reach <= high:
        raise WorldError(f'--reach is {spec.reach:g}: ask for {low:g} to {high:g} metres')
    low, high = _PACE_LIMITS
    if spec.pace is not None and not low <= spec.pace <= high:
        raise WorldError(f'--pace is {spec.pace:g}: ask for {low:g} to {high:g} times the usual speed')
    low, high = _SIZE_LIMITS
    if not (low <= spec.width <= high and low <= spec.height <= high):
        raise WorldError(
            f'images of {spec.width}x{spec.height} cannot be made: each side must be {low} to {high} pixels'
        )


def main(argv: list[str] | None = None) -> int:
    """Command line of tools/create_synthetic.py; returns the exit status."""
    args = parse_create_synthetic(argv)
    try:
        made = _create(args)
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('interrupted; the same command goes on where it stopped', file=sys.stderr)
        return 130
    print(f'{args.out}: {args.scenes} scenes' + ('' if made else ' (already there)'))
    return 0


def _create(args: argparse.Namespace) -> bool:
    """Make what a command line asks for; returns whether anything had to be done."""
    given = {
        name: getattr(args, name)
        for name in ('size', 'frames', 'sweeps', 'reach', 'pace')
        if getattr(args, name) is not None
    }
    options = dict(workers=args.workers, force=args.force)
    if args.format == 'kitti':
        if given:
            raise WorldError(
                f'--{next(iter(given))} is for --format nuscenes: KITTI has single frames, and its evaluation counts '
                f'pixels of {IMAGE_SIZE[0]}x{IMAGE_SIZE[1]} images'
            )
        return create_kitti_world(args.out, args.scenes, args.seed, **options)
    for name in {'sweeps', 'pace'} & given.keys() if args.format == 'coco' else ():
        raise WorldError(f'--{name} is for --format nuscenes: COCO has single images')
    create = create_coco_world if args.format == 'coco' else create_world
    return create(args.out, args.scenes, args.seed, **{'size': _SIZE, **given}, **options)

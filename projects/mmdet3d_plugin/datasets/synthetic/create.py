"""Make a synthetic nuScenes-layout dataset: scenes in parallel, interruptible, the same bytes every time."""

import argparse
import json
import os
import re
import shutil
import signal
import sys
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from projects.mmdet3d_plugin.datasets.synthetic.lidar import Lidar
from projects.mmdet3d_plugin.datasets.synthetic.nuscenes_writer import (
    Rows,
    SceneWriter,
    common_rows,
    write_json,
    write_tables,
)
from projects.mmdet3d_plugin.datasets.synthetic.renderer import Renderer
from projects.mmdet3d_plugin.datasets.synthetic.scene import FRAME_INTERVAL, build_scene

GENERATION = 2  # raise it when the same arguments give other bytes
TRAIN_SHARE = 0.8
STAMP = 'synthetic_world.json'
_UNFINISHED = 'synthetic_world.unfinished.json'
_PARTS = '.synthetic_parts'
_SIZE_LIMITS = (64, 4096)
_MAX_FRAMES = 40
_MAX_SWEEPS = 9


class WorldError(RuntimeError):
    """A world cannot be made as asked; the message says why and what to do."""


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
    """

    scenes: int
    seed: int
    width: int
    height: int
    frames: int = 10
    sweeps: int = 0
    version: str = 'v1.0-trainval'
    generation: int = GENERATION


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

    Returns:
        Whether anything had to be done.

    Raises:
        WorldError: when it cannot be made as asked.
    """
    spec = WorldSpec(scenes, seed, size[0], size[1], frames, sweeps, version)
    _check(spec, workers)
    names = scene_names(scenes)
    root = Path(out)
    if not _prepare(root, spec, force):
        return False
    todo = [name for name in names if not _part_path(root, name).exists()]
    bar = tqdm(total=len(names), initial=len(names) - len(todo), unit='scene', disable=not progress)
    try:
        _run(root, spec, todo, workers, bar)
        _finish(root, spec, names)
    except OSError as error:
        raise WorldError(f'{root} could not be written: {error}') from error
    except BrokenProcessPool as error:
        raise WorldError('a worker process was killed (out of memory?): try --workers 1') from error
    return True


def scene_names(count: int) -> list[str]:
    """Official scene names: the first 80 % from ``train``, the others (at least one of several) from ``val``.

    Raises:
        WorldError: when the official splits do not hold as many.
    """
    from nuscenes.utils.splits import train, val

    training = min(round(TRAIN_SHARE * count), count - 1) if count > 1 else count
    if training > len(train) or count - training > len(val):
        most = max(n for n in range(1, len(train) + len(val) + 1) if _fits_splits(n, len(train), len(val)))
        raise WorldError(
            f'{count} scenes are more than the official splits have names for: ask for at most {most}'
        )
    return train[:training] + val[: count - training]


def _fits_splits(count: int, train: int, val: int) -> bool:
    """Whether ``count`` scenes can be named."""
    training = round(TRAIN_SHARE * count)
    return training <= train and count - training <= val


def make_scene(root: Path, spec: WorldSpec, name: str) -> Rows:
    """Invent one scene, render it and write its files; returns its table rows."""
    scene = build_scene(name, scene_seed(spec.seed, name), spec.frames, (spec.width, spec.height))
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
    """Seed of a scene: the same for one world seed and name, whatever else is in the world."""
    return np.random.SeedSequence(seed, spawn_key=(int(name.split('-')[1]),))


def _check(spec: WorldSpec, workers: int) -> None:
    """Refuse what cannot be made."""
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
    low, high = _SIZE_LIMITS
    if not (low <= spec.width <= high and low <= spec.height <= high):
        raise WorldError(
            f'images of {spec.width}x{spec.height} cannot be made: each side must be {low} to {high} pixels'
        )


def _prepare(root: Path, spec: WorldSpec, force: bool) -> bool:
    """Look at the folder and mark it as under construction; returns False when the world is there already."""
    wanted = asdict(spec)
    try:
        root.mkdir(parents=True, exist_ok=True)
        found = _read(root / STAMP) or _read(root / _UNFINISHED)
        if found is None and any(
            (root / name).exists() for name in ('samples', 'sweeps', 'maps', spec.version)
        ):
            raise WorldError(f'{root} holds a dataset that this tool did not make: give another --out')
        if found is not None and found != wanted and not force:
            raise WorldError(
                f'{root} holds a world with {_difference(found, wanted)}: give --force to replace it, or another --out'
            )
        if found is not None and force:
            _clear(root, found)
        if (root / STAMP).exists():
            return False
        write_json(root / _UNFINISHED, wanted)
        (root / _PARTS).mkdir(exist_ok=True)
    except OSError as error:
        raise WorldError(f'{root} cannot be written ({error.strerror}): give another --out') from error
    return True


def _difference(found: dict, wanted: dict) -> str:
    """What sets two worlds apart, in words."""
    changed = [key for key in wanted if found.get(key) != wanted[key]]
    return ', '.join(f'{key} {found.get(key)} (asked: {wanted[key]})' for key in changed)


def _clear(root: Path, found: dict) -> None:
    """Remove a world of ours, and the info files that describe it."""
    for name in ('samples', 'sweeps', 'maps', found['version'], _PARTS):
        shutil.rmtree(root / name, ignore_errors=True)
    for path in [root / STAMP, root / _UNFINISHED, *root.glob('nuscenes_infos_*.pkl')]:
        path.unlink(missing_ok=True)


def _read(path: Path) -> dict | None:
    """Content of a JSON file, None when there is none."""
    return json.loads(path.read_text(encoding='utf-8')) if path.exists() else None


def _part_path(root: Path, name: str) -> Path:
    """Where the rows of a finished scene wait for the others."""
    return root / _PARTS / f'{name}.json'


def _run(root: Path, spec: WorldSpec, names: list[str], workers: int, bar: tqdm) -> None:
    """Make the scenes, in this process or in several."""
    with bar:
        if workers == 1 or len(names) == 1:
            for name in names:
                _make_part(root, spec, name)
                bar.update()
            return
        # Forked, so that workers need not import everything again.
        pool = ProcessPoolExecutor(min(workers, max(len(names), 1)), get_context('fork'), _prepare_worker)
        try:
            futures: list[Future] = [pool.submit(_make_part, root, spec, name) for name in names]
            for future in as_completed(futures):
                future.result()
                bar.update()
        finally:
            pool.shutdown(cancel_futures=True)


def _prepare_worker() -> None:
    """On Ctrl-C leave at once and without a word: a scene that is not noted as complete is made anew."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))


def _make_part(root: Path, spec: WorldSpec, name: str) -> None:
    """Make a scene and note that it is complete."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # one process per core is faster than threads that wait for each other
    try:
        write_json(_part_path(root, name), make_scene(root, spec, name))
    finally:
        cv2.setNumThreads(threads)


def _finish(root: Path, spec: WorldSpec, names: list[str]) -> None:
    """Join the parts into tables; the stamp comes last."""
    parts = [common_rows(), *(_read(_part_path(root, name)) for name in names)]
    write_tables(root / spec.version, parts)
    os.replace(root / _UNFINISHED, root / STAMP)
    shutil.rmtree(root / _PARTS)


def parse_size(text: str) -> tuple[int, int]:
    """Parse WIDTHxHEIGHT, such as 400x225."""
    match = re.fullmatch(r'(\d+)x(\d+)', text.strip().lower())
    if match is None:
        raise argparse.ArgumentTypeError(f'{text!r} is no image size: write WIDTHxHEIGHT, such as 400x225')
    return int(match[1]), int(match[2])


def _parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='create_synthetic.py', description='Make a synthetic nuScenes-layout dataset.'
    )
    add = parser.add_argument
    add('--out', required=True, help='folder of the dataset')
    add('--scenes', type=int, required=True, help='number of scenes; the last fifth is for validation')
    add('--seed', type=int, default=0, help='fixes every byte (default: 0)')
    add('--size', type=parse_size, default=(400, 225), help='image size WIDTHxHEIGHT (default: 400x225)')
    add('--frames', type=int, default=10, help='keyframes per scene, two a second (default: 10)')
    add('--sweeps', type=int, default=0, help='LiDAR sweeps between two keyframes (default: 0)')
    add('--workers', type=int, default=os.cpu_count() or 1, help='processes (default: one per core)')
    add('--force', action='store_true', help='replace a world that is there already')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Command line of tools/create_synthetic.py; returns the exit status."""
    args = _parse_args(argv)
    options = dict(frames=args.frames, sweeps=args.sweeps, workers=args.workers, force=args.force)
    try:
        made = create_world(args.out, args.scenes, args.seed, args.size, **options)
    except WorldError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('interrupted; the same command goes on where it stopped', file=sys.stderr)
        return 130
    print(f'{args.out}: {args.scenes} scenes' + ('' if made else ' (already there)'))
    return 0

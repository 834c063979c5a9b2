"""Time the stages of making synthetic scenes, one process: CPU and wall milliseconds per image and per sweep."""

import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from projects.mmdet3d_plugin.common.files import write_json
from projects.mmdet3d_plugin.worlds.create import WorldSpec, scene_names, scene_seed
from projects.mmdet3d_plugin.worlds.lidar import Lidar
from projects.mmdet3d_plugin.worlds.renderer import Renderer
from projects.mmdet3d_plugin.worlds.scene import build_scene
from projects.mmdet3d_plugin.worlds.writers.nuscenes_writer import SceneWriter
from tools.benchmark.options import parse_synthetic


class Stopwatch:
    """Adds up CPU and wall time per stage.

    Attributes:
        cpu: seconds of CPU by stage; not disturbed by other programs.
        wall: seconds of wall clock by stage.
    """

    def __init__(self) -> None:
        self.cpu: dict[str, float] = defaultdict(float)
        self.wall: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        self.cpu[name] += time.process_time() - cpu
        self.wall[name] += time.perf_counter() - wall


def time_scene(root: Path, spec: WorldSpec, name: str, watch: Stopwatch) -> None:
    """Make one scene under the stopwatch; the same steps as ``create.make_scene``."""
    with watch.stage('invent'):
        scene = build_scene(name, scene_seed(spec.seed, name), spec.frames, (spec.width, spec.height))
    with watch.stage('prepare views'):
        renderer, lidar = Renderer(scene), Lidar(scene)
    writer, noise = SceneWriter(root, scene, spec.seed), np.random.default_rng(scene.noise)
    for frame, moment in enumerate(scene.times):
        with watch.stage('render'):
            pictures = {
                c.channel: renderer.render(c, float(moment) + c.delay_us * 1e-6) for c in scene.rig.cameras
            }
        with watch.stage('LiDAR'):
            sweep = lidar.cast(float(moment), noise)
        with watch.stage('write files'):
            writer.add_frame(frame, pictures, sweep)
    with watch.stage('annotate'):
        writer.finish()


def measure(scenes: int, frames: int, size: tuple[int, int], seed: int) -> dict:
    """Make scenes in a temporary folder; returns what was measured."""
    cv2.setNumThreads(1)
    watch, spec = Stopwatch(), WorldSpec(scenes, seed, *size, frames)
    with tempfile.TemporaryDirectory() as folder:
        for name in scene_names(scenes):
            time_scene(Path(folder), spec, name, watch)
    images = scenes * frames * 6
    stages = {
        name: {
            'cpu_ms_per_image': 1e3 * watch.cpu[name] / images,
            'wall_ms_per_image': 1e3 * watch.wall[name] / images,
        }
        for name in watch.cpu
    }
    total = {
        key: sum(stage[key] for stage in stages.values()) for key in ('cpu_ms_per_image', 'wall_ms_per_image')
    }
    return {
        'machine': platform.processor() or platform.machine(),
        'python': platform.python_version(),
        'opencv': cv2.__version__,
        'numpy': np.__version__,
        'scenes': scenes,
        'frames': frames,
        'size': list(size),
        'stages': stages,
        'total': total,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    args = parse_synthetic(argv)
    result = measure(args.scenes, args.frames, args.size, args.seed)
    print(f'{"stage":16}{"CPU ms/image":>14}{"wall ms/image":>15}')
    for name, stage in [*result['stages'].items(), ('total', result['total'])]:
        print(f'{name:16}{stage["cpu_ms_per_image"]:14.2f}{stage["wall_ms_per_image"]:15.2f}')
    if args.json:
        write_json(args.json, result, indent=2)

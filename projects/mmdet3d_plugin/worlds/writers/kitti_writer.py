"""A synthetic world in KITTI's layout: single frames with one camera, a LiDAR that looks ahead, and labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from projects.mmdet3d_plugin.common.geometry import planar_pose, transform_matrix
from projects.mmdet3d_plugin.evaluation.kitti_format import (
    image_boxes,
    observation_angle,
    projected_extents,
    to_camera,
)
from projects.mmdet3d_plugin.worlds.catalog import KITTI
from projects.mmdet3d_plugin.worlds.lidar import DENSE, Lidar, Sweep
from projects.mmdet3d_plugin.worlds.renderer import Picture, Renderer
from projects.mmdet3d_plugin.worlds.rig import Rig, make_kitti_rig
from projects.mmdet3d_plugin.worlds.scene import Scene, build_scene
from projects.mmdet3d_plugin.worlds.worlds import World, WorldError, build_world, check_written

GENERATION = 1  # raise it when the same arguments give other bytes
IMAGE_SIZE = (1242, 375)
TRAIN_SHARE = 0.75
LABELLED_REACH = 60.0  # metres from the ego vehicle
_LEAST_SHARE = 0.12  # of an object's pixels that must show for a label
_OCCLUSION = (0.85, 0.5)  # share that shows: fully visible, partly occluded; below, largely
_LEAST_PIXELS = 15  # of something without a label, to be a region that does not count
# what cameras 0 to 3 see of a thing lies this far to the right of where camera 0 sees it, metres
_BASELINES = (0.0, -0.54, 0.06, -0.47)
_FOLDERS = {'velodyne': '.bin', 'image_2': '.png', 'calib': '.txt', 'label_2': '.txt'}


@dataclass(frozen=True)
class KittiSpec:
    """Everything that decides the bytes of a world.

    Attributes:
        frames: how many.
        seed: of the world.
        format: 'kitti'.
        generation: of this generator.
    """

    frames: int
    seed: int
    format: str = 'kitti'
    generation: int = GENERATION


@dataclass(frozen=True)
class KittiWorld(World):
    """Frames, each from a place of its own."""

    format: ClassVar[str] = 'kitti'
    unit: ClassVar[str] = 'frame'
    derived: ClassVar[tuple[str, ...]] = ('kitti_*.pkl', 'kitti_gt_database')

    def folders(self, spec: dict[str, Any]) -> tuple[str, ...]:
        """Folders that a world of a spec fills."""
        return ('training', 'ImageSets')

    def make(self, root: Path, name: str) -> dict[str, Any]:
        """Invent one frame and write its files."""
        seed = np.random.SeedSequence(self.spec.seed, spawn_key=(int(name),))
        scene = build_scene(name, seed, 1, IMAGE_SIZE, KITTI, make_kitti_rig)
        picture = Renderer(scene).render(scene.rig.cameras[0], 0.0)
        write_frame(root, scene, picture, Lidar(scene, DENSE).cast(0.0, np.random.default_rng(scene.noise)))
        return {}

    def finish(self, root: Path, parts: list[dict[str, Any]]) -> None:
        """Write which frames are for training and which for validation."""
        cut = min(round(TRAIN_SHARE * len(self.names)), len(self.names) - 1) or len(self.names)
        sets = {'train': self.names[:cut], 'val': self.names[cut:], 'trainval': self.names, 'test': []}
        for split, names in sets.items():
            path = root / 'ImageSets' / f'{split}.txt'
            path.parent.mkdir(exist_ok=True)
            path.write_text(''.join(f'{name}\n' for name in names))


def create_kitti_world(
    out: str | Path, frames: int, seed: int, progress: bool = True, workers: int = 2, force: bool = False
) -> bool:
    """Make a world, or finish one that was interrupted; a finished one is left alone.

    Args:
        out: folder of the dataset.
        frames: how many; the last quarter is for validation.
        seed: of the world.
        progress: show a progress bar.
        workers: processes; the result does not depend on it.
        force: replace a world that was made with other arguments, or make the same anew.

    Returns:
        Whether anything had to be done.

    Raises:
        WorldError: when it cannot be made as asked.
    """
    for option, value, least in (('--scenes', frames, 1), ('--seed', seed, 0), ('--workers', workers, 1)):
        if value < least:
            raise WorldError(f'{option} is {value}: it must be at least {least}')
    world = KittiWorld(KittiSpec(frames, seed), [f'{index:06d}' for index in range(frames)])
    return build_world(Path(out), world, workers, progress, force)


def write_frame(root: Path, scene: Scene, picture: Picture, sweep: Sweep) -> None:
    """Write the point cloud, the image, the calibration and the labels of a scene's only frame."""
    paths = {folder: root / 'training' / folder / f'{scene.name}{end}' for folder, end in _FOLDERS.items()}
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    calib = calibration(scene.rig)
    points = sweep.points[:, :4] / np.array([1, 1, 1, 255], dtype=np.float32)
    points.tofile(paths['velodyne'])
    written = cv2.imwrite(str(paths['image_2']), picture.image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    check_written(written, paths['image_2'])
    paths['calib'].write_text(_calibration_text(calib))
    paths['label_2'].write_text(''.join(row + '\n' for row in label_rows(scene, calib, picture, sweep)))


def calibration(rig: Rig) -> dict[str, np.ndarray]:
    """KITTI's matrices (4, 4) of a rig with one camera: the reference camera 0 is to the right of it, not rectified."""
    camera = rig.cameras[0]
    intrinsic = transform_matrix(camera.intrinsic)
    projections = {f'P{i}': intrinsic @ _shift(baseline) for i, baseline in enumerate(_BASELINES)}
    rectification = planar_pose(0, 0, 0.008)  # a turn about the line of sight
    lidar2rectified = _shift(-_BASELINES[2]) @ np.linalg.inv(camera.cam2ego) @ rig.lidar2ego
    return dict(
        **projections,
        R0_rect=rectification,
        Tr_velo_to_cam=np.linalg.inv(rectification) @ lidar2rectified,
        Tr_imu_to_velo=np.linalg.inv(rig.lidar2ego),
    )


def _shift(x: float) -> np.ndarray:
    """Transform (4, 4) that moves by ``x`` metres along the x axis."""
    return transform_matrix(np.eye(3), (x, 0, 0))


def _calibration_text(calib: dict[str, np.ndarray]) -> str:
    rows = {name: matrix[:3, :3] if name == 'R0_rect' else matrix[:3] for name, matrix in calib.items()}
    return ''.join(
        f'{name}: {" ".join(f"{value:.12e}" for value in row.ravel())}\n' for name, row in rows.items()
    )


def label_rows(scene: Scene, calib: dict[str, np.ndarray], picture: Picture, sweep: Sweep) -> list[str]:
    """Rows of the label file: objects that a camera and the LiDAR see, then regions that do not count."""
    things = np.array([i for i, thing in enumerate(scene.things) if thing.labelled], dtype=int)
    boxes = lidar_boxes(scene, things)
    shape = IMAGE_SIZE[::-1]
    camera = to_camera(boxes, dict(calib=calib))
    bbox, inside = image_boxes(camera, calib['P2'], shape)
    whole = projected_extents(camera, calib['P2'])
    area = (whole[:, 2:] - whole[:, :2]).clip(1e-9).prod(1)
    truncated = (1 - (bbox[:, 2:] - bbox[:, :2]).prod(1) / area).clip(0, 1)
    seen = picture.seen[things]
    share = seen / np.maximum(picture.whole[things], 1e-9)
    near = np.hypot(boxes[:, 0], boxes[:, 1]) <= LABELLED_REACH
    labelled = inside & near & (share >= _LEAST_SHARE) & (sweep.hits[things] > 0)
    occluded = (share[:, None] < np.array(_OCCLUSION)).sum(1)
    alpha = observation_angle(camera)
    rows = [
        f'{scene.things[things[i]].category} {truncated[i]:.2f} {occluded[i]} {alpha[i]:.2f} '
        f'{_decimals(bbox[i])} {_decimals(camera[i, [4, 5, 3, 0, 1, 2, 6]])}'
        for i in np.flatnonzero(labelled)
    ]
    ignored = np.flatnonzero(inside & ~labelled & (seen >= _LEAST_PIXELS))
    nowhere = '-1 -1 -1 -1000 -1000 -1000 -10'
    return rows + [f'DontCare -1 -1 -10 {_decimals(bbox[i])} {nowhere}' for i in ignored]


def lidar_boxes(scene: Scene, things: Sequence[int]) -> np.ndarray:
    """Boxes (n, 7) of things at time 0 in the LiDAR frame: bottom centre, length, width, height, yaw; metres, radians."""
    lidar2global = planar_pose(*scene.ego.at(0.0)) @ scene.rig.lidar2ego
    poses = np.array([scene.things[i].motion.at(0.0) for i in things]).reshape(-1, 3)
    sizes = np.array([scene.things[i].size for i in things]).reshape(-1, 3)
    feet = np.column_stack([poses[:, :2], np.zeros(len(poses))])
    centres = (feet - lidar2global[:3, 3]) @ lidar2global[:3, :3]
    yaw = poses[:, 2] - np.arctan2(lidar2global[1, 0], lidar2global[0, 0])
    return np.column_stack([centres, sizes, yaw])


def _decimals(values: np.ndarray) -> str:
    return ' '.join(f'{value:.2f}' for value in values)

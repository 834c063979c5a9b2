"""A folder in KITTI's layout -> info files, point clouds cut to the image, and a database of objects."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from mmcv.ops import points_in_boxes_cpu
from mmdet3d.core.bbox import Box3DMode
from tqdm import tqdm

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import write_bytes
from projects.mmdet3d_plugin.common.geometry import transform_points
from projects.mmdet3d_plugin.datasets.converters.kitti_files import (
    FOLDERS,
    frame_file,
    read_calibration,
    read_image_set,
    read_image_shape,
    read_labels,
)
from projects.mmdet3d_plugin.datasets.info_files import Info, save_infos
from projects.mmdet3d_plugin.datasets.point_files import (
    describe_intensities,
    finite_rows,
    read_points,
    recognise_load_dim,
)

SPLITS = {'train': 'training', 'val': 'training', 'trainval': 'training', 'test': 'testing'}
REDUCED = 'velodyne_reduced'
DATABASE = 'kitti_gt_database'
Answer = TypeVar('Answer')


def create_kitti_infos(
    root: Path,
    out_dir: Path | None = None,
    workers: int = 1,
    progress: bool = True,
    lidar_only: bool = False,
    load_dim: int | None = None,
) -> list[Path]:
    """Write everything that training on a KITTI folder needs, as mmdet3d's ``KittiDataset`` reads it.

    Point clouds cut to the camera's view go to ``training/velodyne_reduced``, without points that are not finite;
    objects of the training split, each relative to the bottom centre of its box, to ``kitti_gt_database``. Then come
    ``kitti_infos_<split>.pkl`` for the splits of ``ImageSets``, and last ``kitti_dbinfos_train.pkl``.

    Args:
        root: folder with ``ImageSets/`` and ``training/``; ``testing/`` only when ``ImageSets/test.txt`` lists frames.
        out_dir: where all this goes, default ``root``.
        workers: processes; the result does not depend on it.
        progress: draw progress bars.
        lidar_only: there are no images: clouds stay whole, and image boxes do not count. So it is, with a notice,
            where there is no folder ``training/image_2``.
        load_dim: numbers per point in ``velodyne``, see :func:`read_points`. By default 4, or, with a notice, what the
            first cloud must have.

    Returns:
        The paths of the info files.

    Raises:
        FileNotFoundError: a file is missing.
        UserError: a file holds what cannot be right, or all of them together do: no point in any image or box.
    """
    check_layout(root)
    out = out_dir or root
    if not (lidar_only or (root / 'training/image_2').is_dir()):
        lidar_only = True
        print(
            f'notice: there is no folder {root}/training/image_2: LiDAR only, so point clouds stay whole and image '
            f"boxes do not count; for KITTI's own protocol unpack {FOLDERS['image_2'][1]}"
        )
    splits = _read_splits(root)
    if workers < 1:
        raise UserError(f'--workers is {workers}: ask for at least 1')
    if load_dim is not None and load_dim < 4:
        raise UserError(f'--load-dim is {load_dim}: a point has at least 4 numbers, x, y, z and intensity')
    load_dim = _look_at_first(root, splits, load_dim)
    runs = _Runs(workers, progress)
    infos: dict[tuple[str, int], Info] = {}
    for part in ('training', 'testing'):
        frames = sorted({i for split, indices in splits.items() if SPLITS[split] == part for i in indices})
        made = runs.map(
            partial(frame_info, root, out, part, camera=not lidar_only, load_dim=load_dim), frames, part
        )
        print_counts(part, made)
        infos.update({(part, i): info for i, info in zip(frames, made, strict=True)})
    train = [infos['training', i] for i in splits['train']]
    objects = runs.map(partial(cut_objects, out, out), train, 'objects')
    written = [
        _save([infos[SPLITS[split], i] for i in indices], out / info_file_name(split), 'frames')
        for split, indices in splits.items()
    ]
    database = join_objects(objects)
    return [*written, _save(database, out / 'kitti_dbinfos_train.pkl', 'classes of objects')]


def _look_at_first(root: Path, splits: dict[str, list[int]], load_dim: int | None) -> int:
    """Numbers per point, of the first cloud where nobody has said it; says what is not as KITTI has it."""
    split, index = next((split, indices[0]) for split, indices in splits.items() if indices)
    scan = frame_file(root, SPLITS[split], 'velodyne', index)
    found = load_dim or recognise_load_dim(scan)
    if load_dim is None and found != 4:
        print(
            f'notice: {scan} holds {found} 32-bit floats per point: taken for x, y, z, intensity and more, of which '
            f'the first four are used (--load-dim says how many there are)'
        )
    if odd := describe_intensities(scan, read_points(scan, found)):
        print(f'notice: {odd}')
    return found


def print_counts(part: str, infos: list[Info]) -> None:
    """Say what a part holds, and what of it looks wrong.

    Args:
        part: 'training' or 'testing'.
        infos: of its frames.

    Raises:
        UserError: no frame has a point left, or no object has one.
    """
    if not infos:
        return
    objects, without = Counter(), Counter()
    for annos in (info['annos'] for info in infos if 'annos' in info):
        objects.update(annos['name'].tolist())
        without.update(annos['name'][annos['num_points_in_gt'] == 0].tolist())
    named = ', '.join(f'{name} {count}' for name, count in objects.most_common())
    print(f'{part}: {len(infos)} frames' + (f'; objects: {named}' if named else ''))
    clouds = [info['point_cloud'] for info in infos]
    empty = [info['image']['image_idx'] for info in infos if not info['point_cloud']['num_points']]
    if len(empty) == len(infos):
        if any(cloud['num_outside'] for cloud in clouds):
            raise UserError(
                f'no point of any frame of {part} lies in its image: look at Tr_velo_to_cam, R0_rect and P2 in '
                f'{part}/calib, which take points from the LiDAR to the image (or pass --lidar-only)'
            )
        raise UserError(f'no frame of {part} has a point: unpack {FOLDERS["velodyne"][1]} again')
    if empty:
        print(f'notice: {len(empty)} frames of {part} keep no point, the first is {empty[0]:06d}')
    if dropped := sum(cloud['num_dropped'] for cloud in clouds):
        frames = sum(cloud['num_dropped'] > 0 for cloud in clouds)
        print(f'notice: {dropped} points of {frames} frames of {part} are not finite and were left out')
    cared = objects.total() - objects['DontCare']
    if cared and without.total() == cared:
        raise UserError(
            f'none of the {cared} objects of {part} has a point in its box: look at Tr_velo_to_cam and R0_rect in '
            f'{part}/calib, and at whether {part}/label_2 is in the coordinates of the camera'
        )
    if without:
        print(f'notice: {without.total()} of {cared} objects of {part} have no point in their boxes')


def info_file_name(split: str) -> str:
    """Name of the info file of a split: 'train', 'val', 'trainval' or 'test'.

    Example:
        >>> info_file_name('trainval')
        'kitti_infos_trainval.pkl'
    """
    return f'kitti_infos_{split}.pkl'


def check_layout(root: Path) -> None:
    """Raise one clear line when ``root`` is not a folder in KITTI's layout."""
    if not root.is_dir():
        raise FileNotFoundError(f'{root} does not exist; pass the folder that holds training/ and ImageSets/')
    for name in ('training', 'ImageSets'):
        if not (root / name).is_dir():
            raise FileNotFoundError(
                f'{root} holds no folder {name}; pass the folder that holds training/ and ImageSets/'
            )


def frame_info(root: Path, out: Path, part: str, index: int, camera: bool = True, load_dim: int = 4) -> Info:
    """Cut the scan of one frame to its image and describe the frame.

    Args:
        root: folder in KITTI's layout.
        out: folder that gets ``<part>/velodyne_reduced/<index>.bin``.
        part: 'training' or 'testing', which has no labels.
        index: number of the frame.
        camera: whether there is an image; else the scan is not cut.
        load_dim: numbers per point of the scan.
    """
    scan, calib = (frame_file(root, part, name, index) for name in ('velodyne', 'calib'))
    points = read_points(scan, load_dim)[:, :4]
    finite = points[finite_rows(points)]
    cloud = dict(num_features=load_dim, velodyne_path=scan.relative_to(root).as_posix())
    info: Info = dict(image=dict(image_idx=index), point_cloud=cloud, calib=read_calibration(calib, camera))
    kept = finite
    if camera:
        image = frame_file(root, part, 'image_2', index)
        info['image'] |= dict(
            image_path=image.relative_to(root).as_posix(), image_shape=read_image_shape(image)
        )
        kept = finite[in_image(finite[:, :3], info)]
    cloud |= dict(
        num_points=len(kept), num_outside=len(finite) - len(kept), num_dropped=len(points) - len(finite)
    )
    write_bytes(reduced_path(out, part, index), kept.tobytes(), sync=False)
    if part == 'training':
        info['annos'] = read_labels(frame_file(root, part, 'label_2', index), camera)
        inside = points_in_boxes(kept[:, :3], lidar_boxes(info))
        counts = inside.sum(0).astype(np.int32)
        dont_care = len(info['annos']['name']) - len(counts)  # they come last
        info['annos']['num_points_in_gt'] = np.pad(counts, (0, dont_care), constant_values=-1)
    return info


def reduced_path(root: Path, part: str, index: int) -> Path:
    """Where the point cloud of a frame lies that is cut to its image."""
    return root / part / REDUCED / f'{index:06d}.bin'


def in_image(points: np.ndarray, info: Info) -> np.ndarray:
    """Which points the left colour camera sees.

    Args:
        points: (N, 3) in the LiDAR frame, metres.
        info: of the frame.

    Returns:
        (N,) bool.
    """
    calib = info['calib']
    lidar2img = calib['P2'] @ calib['R0_rect'] @ calib['Tr_velo_to_cam']
    u, v, depth = transform_points(points, lidar2img).T
    height, width = info['image']['image_shape']
    return (depth > 0) & (u >= 0) & (u < width * depth) & (v >= 0) & (v < height * depth)


def lidar_boxes(info: Info) -> np.ndarray:
    """(n, 7) float32 boxes of the objects of a frame, DontCare left out: LiDAR frame, bottom centres, metres.

    Each is converted by itself: a product of many rows rounds otherwise than that of one, and where a box lies must not
    depend on its company, which differs between all labels and few.
    """
    annos = info['annos']
    cared = annos['name'] != 'DontCare'
    boxes = np.column_stack([annos['location'], annos['dimensions'], annos['rotation_y']])[cared]
    camera2lidar = np.linalg.inv(info['calib']['R0_rect'] @ info['calib']['Tr_velo_to_cam'])
    boxes = boxes.astype(np.float32)
    alone = [Box3DMode.convert(box[None], Box3DMode.CAM, Box3DMode.LIDAR, camera2lidar) for box in boxes]
    return np.concatenate([boxes[:0], *alone])


def points_in_boxes(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Which points lie in which boxes.

    Args:
        points: (N, 3) in the LiDAR frame, metres.
        boxes: (n, 7) in the LiDAR frame, bottom centres.

    Returns:
        (N, n) bool.
    """
    if not (len(points) and len(boxes)):
        return np.zeros((len(points), len(boxes)), dtype=bool)
    inside = points_in_boxes_cpu(torch.from_numpy(points)[None], torch.from_numpy(boxes)[None])
    return inside[0].numpy().astype(bool)


def cut_objects(clouds: Path, out: Path, info: Info) -> list[Info]:
    """Write the points of every object of a frame, relative to its box, and describe them for ``ObjectSample``.

    Args:
        clouds: folder with ``training/velodyne_reduced``.
        out: folder that the objects are written to and that their paths are relative to.
        info: of the frame.
    """
    index, annos = info['image']['image_idx'], info['annos']
    points = np.fromfile(reduced_path(clouds, 'training', index), np.float32).reshape(-1, 4)
    boxes = lidar_boxes(info)
    described = []
    for i, inside in enumerate(points_in_boxes(points[:, :3], boxes).T):
        name = str(annos['name'][i])
        path = f'{DATABASE}/{index}_{name}_{i}.bin'
        own = points[inside]
        own[:, :3] -= boxes[i, :3]
        write_bytes(out / path, own.tobytes(), sync=False)
        described.append(
            dict(
                name=name,
                path=path,
                image_idx=index,
                gt_idx=i,
                box3d_lidar=boxes[i],
                num_points_in_gt=len(own),
                difficulty=annos['difficulty'][i],
            )
        )
    return described


def join_objects(objects: Iterable[list[Info]]) -> dict[str, list[Info]]:
    """Objects of all frames, as :func:`cut_objects` describes them, by class and numbered."""
    database = defaultdict(list)
    for number, described in enumerate(item for frame in objects for item in frame):
        database[described['name']].append(dict(described, group_id=number))
    return dict(database)


def _read_splits(root: Path) -> dict[str, list[int]]:
    """Frames of each split; 'trainval' may be left to us, and 'test' may be absent."""
    splits = {split: read_image_set(root, split) for split in ('train', 'val')}
    listed = {path.stem for path in (root / 'ImageSets').glob('*.txt')}
    both = set(splits['train']) & set(splits['val'])
    if both:
        print(f'notice: {len(both)} frames are in the training and in the validation split')
    splits['trainval'] = (
        read_image_set(root, 'trainval')
        if 'trainval' in listed
        else sorted({*splits['train'], *splits['val']})
    )
    splits['test'] = read_image_set(root, 'test') if 'test' in listed else []
    if not any(splits.values()):
        raise UserError(f'the files of {root}/ImageSets list no frame, one number such as 000008 per line')
    return splits


def _save(content: list[Info] | dict[str, list[Info]], path: Path, what: str) -> Path:
    save_infos(content, path)
    print(f'{path}: {len(content)} {what}' if content else f'notice: {path} is empty, it holds no {what}')
    return path


class _Runs:
    """Applies a function to many items, in this process or in several, with a progress bar."""

    def __init__(self, workers: int, progress: bool) -> None:
        self.workers, self.progress = workers, progress

    def map(self, function: Callable[..., Answer], items: list, title: str) -> list[Answer]:
        """Answers in the order of the items."""
        answers: list[Answer] = []
        hidden = not self.progress or not items
        with tqdm(total=len(items), desc=title, unit='frame', disable=hidden) as bar:
            for answer in self._answers(function, items):
                answers.append(answer)
                bar.update()
        return answers

    def _answers(self, function: Callable[..., Answer], items: list) -> Iterator[Answer]:
        if self.workers == 1 or len(items) < 2:
            yield from map(function, items)
            return
        # Forked, so that workers need not import everything again; a fork has lost torch's threads and must not
        # wait for them.
        with ProcessPoolExecutor(self.workers, get_context('fork'), torch.set_num_threads, (1,)) as pool:
            yield from pool.map(function, items, chunksize=4)

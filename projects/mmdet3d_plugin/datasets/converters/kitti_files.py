"""The files of a folder in KITTI's layout: where they lie, and what is in them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

Annotations = dict[str, np.ndarray]
Calibration = dict[str, np.ndarray]

# folder below training/ or testing/ -> (suffix of its files, archive of the official download)
FOLDERS = {
    'velodyne': ('.bin', 'data_object_velodyne.zip'),
    'image_2': ('.png', 'data_object_image_2.zip'),
    'calib': ('.txt', 'data_object_calib.zip'),
    'label_2': ('.txt', 'data_object_label_2.zip'),
}
_CALIBRATION = {
    'P0': (3, 4), 'P1': (3, 4), 'P2': (3, 4), 'P3': (3, 4), 'R0_rect': (3, 3), 'Tr_velo_to_cam': (3, 4),
    'Tr_imu_to_velo': (3, 4),
}  # fmt: skip
_MIN_HEIGHT = np.array([40, 25, 25])  # pixels: easy, moderate, hard
_MAX_OCCLUSION = np.array([0, 1, 2])
_MAX_TRUNCATION = np.array([0.15, 0.3, 0.5])


def frame_file(root: Path, part: str, folder: str, index: int) -> Path:
    """Path of a file of one frame, which exists.

    Args:
        root: folder with ``training/`` and ``testing/``.
        part: 'training' or 'testing'.
        folder: one of FOLDERS.
        index: number of the frame.
    """
    suffix, archive = FOLDERS[folder]
    path = root / part / folder / f'{index:06d}{suffix}'
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} is missing, but ImageSets lists frame {index:06d}; unpack {archive} into {root}'
        )
    return path


def read_image_set(root: Path, split: str) -> list[int]:
    """Numbers of the frames of a split, as ``ImageSets/<split>.txt`` lists them."""
    path = root / 'ImageSets' / f'{split}.txt'
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} is missing; it lists the frames of the split, one number such as 000008 per line '
            '(3712 to train, 3769 to validate in the usual split)'
        )
    words = path.read_text().split()
    for word in words:
        if not word.isdigit():
            raise ValueError(f'{path} holds {word!r}, which is no frame number such as 000008')
    return [int(word) for word in words]


def read_calibration(path: Path) -> Calibration:
    """Matrices of one frame, all (4, 4) float64: P0..P3, R0_rect, Tr_velo_to_cam, Tr_imu_to_velo."""
    rows = dict(line.split(':', 1) for line in path.read_text().splitlines() if ':' in line)
    return {name: _matrix(path, name, rows.get(name, ''), shape) for name, shape in _CALIBRATION.items()}


def _matrix(path: Path, name: str, row: str, shape: tuple[int, int]) -> np.ndarray:
    """(4, 4) identity with the numbers of a row in its upper left corner."""
    try:
        numbers = np.array([float(word) for word in row.split()]).reshape(shape)
    except ValueError as error:
        raise ValueError(
            f'{path}: row {name} should hold {shape[0] * shape[1]} numbers; unpack {FOLDERS["calib"][1]} again'
        ) from error
    matrix = np.eye(4)
    matrix[: shape[0], : shape[1]] = numbers
    return matrix


def read_labels(path: Path) -> Annotations:
    """Objects of one frame, ``DontCare`` last.

    Returns:
        ``name`` (n,), ``truncated`` (n,) 0..1 and ``occluded`` (n,) 0..3, ``alpha`` (n,) radians, ``bbox`` (n, 4) x0,
        y0, x1, y1 in pixels, ``dimensions`` (n, 3) length, height, width in metres, ``location`` (n, 3) bottom
        centre in the camera's frame, metres, ``rotation_y`` (n,) radians, ``score`` (n,), ``index`` (n,) int32 (-1
        for DontCare), ``group_ids`` (n,) int32 and ``difficulty`` (n,) int32: 0 easy, 1 moderate, 2 hard, -1 none.
    """
    rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
    rows.sort(key=lambda row: row[0] == 'DontCare')
    names = np.array([row[0] for row in rows], dtype=str)
    numbers = _label_numbers(path, rows)
    annotations = dict(
        name=names,
        truncated=numbers[:, 0],
        occluded=numbers[:, 1].astype(np.int64),
        alpha=numbers[:, 2],
        bbox=numbers[:, 3:7],
        dimensions=numbers[:, [9, 7, 8]],
        location=numbers[:, 10:13],
        rotation_y=numbers[:, 13],
        score=numbers[:, 14],
        index=np.where(names == 'DontCare', -1, np.arange(len(rows))).astype(np.int32),
        group_ids=np.arange(len(rows), dtype=np.int32),
    )
    return dict(annotations, difficulty=difficulty_of(annotations))


def _label_numbers(path: Path, rows: Sequence[list[str]]) -> np.ndarray:
    """(n, 15) numbers of label rows; the score of a label without one is 0."""
    if not rows:
        return np.zeros((0, 15))
    try:
        numbers = np.array([[float(word) for word in row[1:16]] for row in rows]).reshape(len(rows), -1)
    except ValueError as error:
        raise ValueError(
            f'{path} is no KITTI label file: its rows should all hold a name and 14 numbers'
        ) from error
    if numbers.shape[1] not in (14, 15):
        raise ValueError(
            f'{path}: a row holds {numbers.shape[1]} numbers after the name; KITTI labels hold 14, results 15'
        )
    return np.pad(numbers, ((0, 0), (0, 15 - numbers.shape[1])))


def difficulty_of(annotations: Annotations) -> np.ndarray:
    """(n,) int32, the easiest level that counts each object: 0 easy, 1 moderate, 2 hard, -1 none of them."""
    height = annotations['bbox'][:, 3] - annotations['bbox'][:, 1]
    counts = (
        (height[:, None] > _MIN_HEIGHT)
        & (annotations['occluded'][:, None] <= _MAX_OCCLUSION)
        & (annotations['truncated'][:, None] <= _MAX_TRUNCATION)
    )
    counts[annotations['name'] == 'DontCare'] = False
    return np.where(counts.any(1), counts.argmax(1), -1).astype(np.int32)


def read_image_shape(path: Path) -> np.ndarray:
    """(2,) int32 height and width of an image, pixels; only its header is read."""
    try:
        with Image.open(path) as image:
            return np.array(image.size[::-1], dtype=np.int32)
    except UnidentifiedImageError as error:
        raise ValueError(f'{path} is no image; unpack {FOLDERS["image_2"][1]} again') from error


def read_points(path: Path) -> np.ndarray:
    """(N, 4) float32 x, y, z in metres (LiDAR frame) and reflectance 0..1 of a scan."""
    content = np.fromfile(path, dtype=np.float32)
    if content.size % 4:
        raise ValueError(
            f'{path} does not hold whole points (four 32-bit floats each); unpack {FOLDERS["velodyne"][1]} again'
        )
    return content.reshape(-1, 4)

"""The files of a folder in KITTI's layout: where they lie, and what is in them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.datasets.info_checks import LARGEST, LARGEST_ANGLE

Annotations = dict[str, np.ndarray]
Calibration = dict[str, np.ndarray]

# folder below training/ or testing/ -> (suffixes of its files, archive of the official download)
FOLDERS = {
    'velodyne': (('.bin',), 'data_object_velodyne.zip'),
    'image_2': (('.png', '.jpg', '.jpeg'), 'data_object_image_2.zip'),
    'calib': (('.txt',), 'data_object_calib.zip'),
    'label_2': (('.txt',), 'data_object_label_2.zip'),
}
_USED = ('P2', 'R0_rect', 'Tr_velo_to_cam')
_UNUSED = ('P0', 'P1', 'P3', 'Tr_imu_to_velo')  # kept where they are, for other readers of the info files
_SHAPES = {9: (3, 3), 12: (3, 4), 16: (4, 4)}
_MIN_HEIGHT = np.array([40, 25, 25])  # pixels: easy, moderate, hard
_MAX_OCCLUSION = np.array([0, 1, 2])
_MAX_TRUNCATION = np.array([0.15, 0.3, 0.5])
_FARTHEST = 1e4  # metres, of an object from the camera
_LONGEST_FOCAL = 1e6  # pixels


def frame_file(root: Path, part: str, folder: str, index: int) -> Path:
    """Path of a file of one frame, which exists.

    Args:
        root: folder with ``training/`` and ``testing/``.
        part: 'training' or 'testing'.
        folder: one of FOLDERS.
        index: number of the frame.

    Raises:
        FileNotFoundError: there is none; the message names the archive that has it.
    """
    suffixes, archive = FOLDERS[folder]
    paths = [root / part / folder / f'{index:06d}{suffix}' for suffix in suffixes]
    for path in paths:
        if path.is_file():
            return path
    raise FileNotFoundError(
        f'{paths[0]} is missing, but ImageSets lists frame {index:06d}; unpack {archive} into {root}, or take the '
        'frame off the list'
    )


def read_image_set(root: Path, split: str) -> list[int]:
    """Numbers of the frames of a split, as ``ImageSets/<split>.txt`` lists them, each once."""
    path = root / 'ImageSets' / f'{split}.txt'
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} is missing; it lists the frames of the split, one number such as 000008 per line '
            '(3712 to train, 3769 to validate in the usual split)'
        )
    words = _read_text(path).split()
    for word in words:
        if not (word.isascii() and word.isdecimal()):
            raise UserError(f'{path} holds {word!r}, which is no frame number such as 000008')
    frames = [int(word) for word in words]
    twice = [frame for frame, count in Counter(frames).items() if count > 1]
    if twice:
        raise UserError(
            f'{path} lists {len(twice)} of its frames more than once, the first is {twice[0]:06d}; list each once'
        )
    return frames


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding='utf-8-sig')  # some editors put a mark in front
    except UnicodeDecodeError as error:
        raise UserError(f'{path} is not a text file; copy or unpack it again') from error


def read_calibration(path: Path, camera: bool = True) -> Calibration:
    """Matrices of one frame, all (4, 4) float64: R0_rect, Tr_velo_to_cam, P2 with a camera, and other rows of KITTI's.

    Args:
        path: text file of rows ``name: numbers``; 9 numbers are a 3x3 matrix, 12 a 3x4, 16 a 4x4.
        camera: whether P2 must be there.

    Raises:
        UserError: a row that is used is missing, or holds what cannot be right.
    """
    lines = [line.split(':', 1) for line in _read_text(path).splitlines() if ':' in line]
    rows = {name.strip(): row for name, row in lines}
    if len(rows) < len(lines):
        twice = Counter(name.strip() for name, _ in lines).most_common(1)[0][0]
        raise UserError(f'{path}: row {twice} is there more than once; {_again("calib")}')
    calib = {
        name: _matrix(path, name, rows.get(name, ''))
        for name in _USED
        if name != 'P2' or camera or name in rows
    }
    for name in ('R0_rect', 'Tr_velo_to_cam'):
        turn = calib[name][:3, :3]
        if not np.allclose(turn @ turn.T, np.eye(3), atol=0.05) or np.linalg.det(turn) < 0:
            raise UserError(
                f'{path}: row {name} does not begin with a rotation (its columns should be perpendicular unit '
                f'vectors, right-handed); {_again("calib")}'
            )
    if 'P2' in calib:
        focal, last = np.diag(calib['P2'])[:2], calib['P2'][2, :3]
        if not ((focal > 0) & (focal < _LONGEST_FOCAL)).all() or not np.allclose(last, (0, 0, 1), atol=0.05):
            raise UserError(
                f'{path}: row P2 is no pinhole camera: focal lengths {focal[0]:g} and {focal[1]:g}, third row '
                f'{last.tolist()}; {_again("calib")}'
            )
    for name in _UNUSED:
        try:
            calib[name] = _matrix(path, name, rows.get(name, ''))
        except UserError:
            continue
    return calib


def _matrix(path: Path, name: str, row: str) -> np.ndarray:
    """(4, 4) identity with the numbers of a row in its upper left corner."""
    words, least = row.split(), 9 if name == 'R0_rect' else 12
    try:
        numbers = np.array([float(word) for word in words]).reshape(_SHAPES[len(words)])
    except (ValueError, KeyError):
        numbers = np.zeros(0)
    if numbers.size < least:
        there = f'holds {" ".join(words)[:40]!r}' if words else 'is missing'
        raise UserError(f'{path}: row {name} {there}, it should hold {least} numbers; {_again("calib")}')
    if not np.isfinite(numbers).all():
        raise UserError(f'{path}: row {name} holds numbers that are not finite; {_again("calib")}')
    matrix = np.eye(4)
    matrix[: numbers.shape[0], : numbers.shape[1]] = numbers
    return matrix


def _again(folder: str) -> str:
    return f'mend it, or unpack {FOLDERS[folder][1]} again'


def read_labels(path: Path, camera: bool = True) -> Annotations:
    """Objects of one frame, ``DontCare`` last.

    Args:
        path: label file; a row is a name and 14 numbers, with a score 15.
        camera: whether image boxes mean something; else they come back as zeros and do not count for difficulty.

    Returns:
        ``name`` (n,), ``truncated`` (n,) 0..1 and ``occluded`` (n,) 0..3, ``alpha`` (n,) radians, ``bbox`` (n, 4) x0,
        y0, x1, y1 in pixels, ``dimensions`` (n, 3) length, height, width in metres, ``location`` (n, 3) bottom
        centre in the camera's frame, metres, ``rotation_y`` (n,) radians, ``score`` (n,), ``index`` (n,) int32 (-1
        for DontCare), ``group_ids`` (n,) int32 and ``difficulty`` (n,) int32: 0 easy, 1 moderate, 2 hard, -1 none.

    Raises:
        UserError: a row has another length, or numbers that are not finite or no size; the line is named.
    """
    lines = [(number, line.split()) for number, line in enumerate(_read_text(path).splitlines(), 1)]
    rows = sorted((item for item in lines if item[1]), key=lambda item: item[1][0] == 'DontCare')
    names = np.array([words[0] for _, words in rows], dtype=str)
    numbers = np.array([_label_numbers(f'{path}, line {n}', words, camera) for n, words in rows]).reshape(
        -1, 15
    )
    annotations = dict(
        name=names,
        truncated=numbers[:, 0],
        occluded=numbers[:, 1].astype(np.int64),
        alpha=numbers[:, 2],
        bbox=numbers[:, 3:7] * camera,
        dimensions=numbers[:, [9, 7, 8]],
        location=numbers[:, 10:13],
        rotation_y=numbers[:, 13],
        score=numbers[:, 14],
        index=np.where(names == 'DontCare', -1, np.arange(len(rows))).astype(np.int32),
        group_ids=np.arange(len(rows), dtype=np.int32),
    )
    return dict(annotations, difficulty=difficulty_of(annotations, camera))


def _label_numbers(place: str, words: Sequence[str], camera: bool) -> list[float]:
    """15 numbers of a label row; the score of a label without one is 0. ``place`` is the row's, for messages."""
    if len(words) not in (15, 16):
        raise UserError(
            f'{place} holds {len(words) - 1} numbers after the name; KITTI labels hold 14, results 15; '
            f'{_again("label_2")}'
        )
    try:
        numbers = [float(word) for word in words[1:]]
    except ValueError as error:
        raise UserError(f'{place} is no KITTI label: {error}; {_again("label_2")}') from error
    if not np.isfinite(numbers).all():
        raise UserError(
            f'{place} holds numbers that are not finite; mend the row or call the object DontCare'
        )
    if words[0] != 'DontCare':
        height, width, length = numbers[7:10]
        if not 0 < min(height, width, length) <= max(height, width, length) <= LARGEST:
            raise UserError(
                f'{place}: {words[0]} is {height:g} m high, {width:g} m wide and {length:g} m long, which cannot be; '
                'mend the row or call the object DontCare'
            )
        if max(map(abs, numbers[10:13])) > _FARTHEST or abs(numbers[13]) > LARGEST_ANGLE:
            raise UserError(
                f'{place}: {words[0]} is at {numbers[10:13]} m, heading {numbers[13]:g} radians, which cannot be; mend the '
                'row or call the object DontCare'
            )
        if camera and not (numbers[3] <= numbers[5] and numbers[4] <= numbers[6]):
            raise UserError(f'{place}: the image box of {words[0]} ends before it begins; mend the row')
    return [*numbers, 0.0][:15]


def difficulty_of(annotations: Annotations, camera: bool = True) -> np.ndarray:
    """(n,) int32, the easiest level that counts each object: 0 easy, 1 moderate, 2 hard, -1 none of them.

    Without a camera, the height of the image box does not matter.
    """
    height = annotations['bbox'][:, 3] - annotations['bbox'][:, 1]
    counts = (
        ((height[:, None] > _MIN_HEIGHT) | (not camera))
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
        raise UserError(f'{path} is no image; unpack {FOLDERS["image_2"][1]} again') from error

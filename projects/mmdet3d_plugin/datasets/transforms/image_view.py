"""From decoded images to what one network sees."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from mmdet.datasets.builder import PIPELINES

from projects.mmdet3d_plugin.common.geometry import lidar_to_image


@PIPELINES.register_module()
class ImageView:
    """Resize, crop, normalise and pad the decoded images for one network; intrinsics follow.

    Adds ``results['views'][name]``: ``img`` (num_cams, 3, H, W) float32, ``cam_intrinsic`` (num_cams, 3, 3) and
    ``lidar2img`` (num_cams, 4, 4) in pixels of this view, ``ida`` (num_cams, 3, 3), which takes pixels ``(u, v, 1)`` of the
    decoded image to this view, ``img_shape`` (H, W) with and ``valid_shape``, (h, w) of every camera, without the padding
    at the right and at the bottom. Cameras of several sizes are padded to the largest.

    Args:
        name: '' for the main view, which becomes ``img``; else e.g. 'teacher', which becomes ``teacher_img``.
        scale: factor on both sides. Give ``scale`` or ``size``; with neither the images keep their size.
        size: (width, height) wanted.
        mean: of the three channels, in the order after ``to_rgb``.
        std: of the three channels, in the order after ``to_rgb``.
        to_rgb: swap from BGR to RGB.
        pad_divisor: sides are padded with zeros to multiples of this.
        crop: (width, height) that is cut out of the resized image, at its bottom and half way across; black where the
            image ends.
        augment: chance in training, ``dict(scale=(low, high), flip=probability, rotate=degrees)``, any of them: every
            camera draws a scale, where across to crop, whether to mirror, and an angle up to ``rotate`` either way.
            All frames of a queue draw alike.
    """

    def __init__(
        self,
        name: str = '',
        scale: float | None = None,
        size: tuple[int, int] | None = None,
        mean: Sequence[float] = (103.530, 116.280, 123.675),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        to_rgb: bool = False,
        pad_divisor: int = 32,
        crop: tuple[int, int] | None = None,
        augment: Mapping[str, Any] | None = None,
    ) -> None:
        if scale is not None and size is not None:
            raise ValueError(f'ImageView takes scale or size, not both (scale={scale}, size={size})')
        if augment is not None and crop is None:
            raise ValueError('ImageView: augment needs a crop, which says how large the images become')
        unknown = sorted(set(augment or ()) - {'scale', 'flip', 'rotate'})
        if unknown:
            raise ValueError(f'ImageView: augment takes scale, flip and rotate, not {unknown[0]!r}')
        self.name = name
        self.scale = scale
        self.size = tuple(size) if size is not None else None
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.to_rgb = to_rgb
        self.pad_divisor = pad_divisor
        self.crop = tuple(crop) if crop is not None else None
        self.augment = dict(augment) if augment is not None else None

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Make the view out of ``results['images']``, which stay as they are."""
        placed = [self._place(image, results.get('queue_rng')) for image in results['images']]
        divisor, sizes = self.pad_divisor, zip(*(_size(image) for image, _ in placed), strict=True)
        width, height = (math.ceil(max(sides) / divisor) * divisor for sides in sizes)
        img = np.zeros((len(placed), 3, height, width), np.float32)
        for (image, _), out in zip(placed, img, strict=True):
            w, h = _size(image)
            self._normalise(image, out[:, :h, :w])
        ida = np.stack([matrix for _, matrix in placed])
        intrinsics = ida @ np.array(results['cam_intrinsic'], dtype=np.float64)
        results.setdefault('views', {})[self.name] = dict(
            img=img,
            cam_intrinsic=intrinsics,
            ida=ida,
            lidar2img=lidar_to_image(intrinsics, results['cam2lidar']),
            img_shape=img.shape[-2:],
            valid_shape=[_size(image)[::-1] for image, _ in placed],
        )
        return results

    def _place(self, image: np.ndarray, rng: np.random.Generator | None) -> tuple[np.ndarray, np.ndarray]:
        """An image (H, W, 3) as this view has it, not yet normalised, and what that does to pixels, (3, 3)."""
        if self.augment is not None:
            return self._augmented(image, rng)
        width, height = self._target_size(image)
        # Pixel centres are taken at integer coordinates on both sides, as the published models do.
        ida = np.diag([width / image.shape[1], height / image.shape[0], 1.0])
        resized = _resize(image, width, height)
        if self.crop is None:
            return resized, ida
        return _cut(resized, ida, self.crop, max(0, width - self.crop[0]) // 2)

    def _augmented(self, image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The same with chance in it; every step draws, whether it is wanted or not, so that one can be left out."""
        scale, share, coin, angle = rng.random(4)
        low, high = self.augment.get('scale', (self.scale or 1.0,) * 2)
        scale, degrees = low + scale * (high - low), self.augment.get('rotate', 0.0)
        width, height = int(image.shape[1] * scale), int(image.shape[0] * scale)
        ida = np.diag([width / image.shape[1], height / image.shape[0], 1.0])
        left = int(share * max(0, width - self.crop[0]))
        image, ida = _cut(_resize(image, width, height), ida, self.crop, left)
        if coin < self.augment.get('flip', 0.0):
            image = image[:, ::-1]
            ida = np.array([[-1.0, 0, self.crop[0] - 1], [0, 1, 0], [0, 0, 1]]) @ ida
        if degrees:
            image, ida = _turned(image, ida, (2 * angle - 1) * degrees)
        return image, ida

    def _target_size(self, image: np.ndarray) -> tuple[int, int]:
        """(width, height) that an image (H, W, 3) gets, without padding."""
        if self.size is not None:
            return self.size
        scale = 1.0 if self.scale is None else self.scale
        return int(image.shape[1] * scale), int(image.shape[0] * scale)

    def _normalise(self, image: np.ndarray, out: np.ndarray) -> None:
        """(h, w, 3) BGR -> out (3, h, w), in place."""
        channels = [out[2], out[1], out[0]] if self.to_rgb else [out[0], out[1], out[2]]
        cv2.split(np.asarray(image, np.float32), channels)
        for channel, mean, std in zip(out, self.mean, self.std, strict=True):
            channel -= np.float32(mean)
            if std != 1:
                channel /= np.float32(std)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(name={self.name!r}, scale={self.scale}, size={self.size}, mean={self.mean}, '
            f'std={self.std}, to_rgb={self.to_rgb}, pad_divisor={self.pad_divisor}, crop={self.crop}, '
            f'augment={self.augment})'
        )


def _resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    if image.shape[:2] == (height, width):
        return image
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def _size(image: np.ndarray) -> tuple[int, int]:
    """(width, height) of an image (H, W, 3)."""
    return image.shape[1], image.shape[0]


def _cut(
    image: np.ndarray, ida: np.ndarray, size: tuple[int, int], left: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cut (width, height) out of the bottom of an image (H, W, 3), from a column on; (3, 3) follows."""
    width, height = size
    top = image.shape[0] - height
    out = np.zeros((height, width, 3), image.dtype)
    part = image[max(top, 0) :, left : left + width]
    out[height - part.shape[0] :, : part.shape[1]] = part
    return out, np.array([[1.0, 0, -left], [0, 1, -top], [0, 0, 1]]) @ ida


def _turned(image: np.ndarray, ida: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Turn an image (H, W, 3) counter-clockwise about its centre; (3, 3) follows."""
    width, height = _size(image)
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    image = cv2.warpAffine(np.ascontiguousarray(image), turn, (width, height), flags=cv2.INTER_LINEAR)
    return image, np.vstack([turn, [0, 0, 1]]) @ ida

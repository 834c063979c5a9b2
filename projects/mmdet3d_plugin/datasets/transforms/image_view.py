"""From decoded images to what one network sees."""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from mmdet.datasets.builder import PIPELINES

from projects.mmdet3d_plugin.common.geometry import lidar_to_image


@PIPELINES.register_module()
class ImageView:
    """Resize, normalise and pad the decoded images for one network; intrinsics follow.

    Adds ``results['views'][name]``: ``img`` (num_cams, 3, H, W) float32, ``cam_intrinsic`` (num_cams, 3, 3) and
    ``lidar2img`` (num_cams, 4, 4) in pixels of this view, ``img_shape`` (H, W) with and ``valid_shape``, (h, w) of every
    camera, without the padding at the right and at the bottom. Cameras of several sizes are padded to the largest.

    Args:
        name: '' for the main view, which becomes ``img``; else e.g. 'teacher', which becomes ``teacher_img``.
        scale: factor on both sides. Give ``scale`` or ``size``; with neither the images keep their size.
        size: (width, height) wanted.
        mean: of the three channels, in the order after ``to_rgb``.
        std: of the three channels, in the order after ``to_rgb``.
        to_rgb: swap from BGR to RGB.
        pad_divisor: sides are padded with zeros to multiples of this.
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
    ) -> None:
        if scale is not None and size is not None:
            raise ValueError(f'ImageView takes scale or size, not both (scale={scale}, size={size})')
        self.name = name
        self.scale = scale
        self.size = tuple(size) if size is not None else None
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.to_rgb = to_rgb
        self.pad_divisor = pad_divisor

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Make the view out of ``results['images']``, which stay as they are."""
        images = results['images']
        sizes = [self._target_size(image) for image in images]
        divisor = self.pad_divisor
        width, height = (math.ceil(max(sides) / divisor) * divisor for sides in zip(*sizes, strict=True))
        img = np.zeros((len(images), 3, height, width), np.float32)
        intrinsics = np.array(results['cam_intrinsic'], dtype=np.float64)
        for image, out, intrinsic, (w, h) in zip(images, img, intrinsics, sizes, strict=True):
            # Pixel centres are taken at integer coordinates on both sides, as the published models do.
            intrinsic[0] *= w / image.shape[1]
            intrinsic[1] *= h / image.shape[0]
            if image.shape[:2] != (h, w):
                image = cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
            self._normalise(image, out[:, :h, :w])
        results.setdefault('views', {})[self.name] = dict(
            img=img,
            cam_intrinsic=intrinsics,
            lidar2img=lidar_to_image(intrinsics, results['cam2lidar']),
            img_shape=img.shape[-2:],
            valid_shape=[(h, w) for w, h in sizes],
        )
        return results

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
            f'std={self.std}, to_rgb={self.to_rgb}, pad_divisor={self.pad_divisor})'
        )

"""Reading the images of a frame."""

from collections import OrderedDict
from typing import Any

import cv2
import numpy as np
from mmdet.datasets.builder import PIPELINES

from projects.mmdet3d_plugin.common.errors import UserError


@PIPELINES.register_module()
class LoadMultiViewImages:
    """Decode the images of all cameras, once, for every view made of them.

    Adds ``results['images']``: list of num_cams arrays (H, W, 3), BGR, float32 or uint8. The steps after it never
    write into these arrays.

    Args:
        to_float32: decode to float32, as the published models do. Without it a resize rounds to whole grey levels: half a
            level at most, and it is faster.
        cache_mb: megabytes of decoded images (as uint8) that each loading process keeps, those used last; 0 keeps
            none. Queues and epochs meet the same images again: a world that fits is decoded once.
    """

    def __init__(self, to_float32: bool = False, cache_mb: float = 0) -> None:
        if not cache_mb >= 0:
            raise ValueError(f'LoadMultiViewImages: cache_mb={cache_mb} must be at least 0')
        self.to_float32, self.cache_mb = to_float32, cache_mb
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        self._bytes = 0

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Read ``results['img_filename']``; sizes must be those of the info file where it knows them."""
        if not results['img_filename']:
            raise UserError(
                'LoadMultiViewImages: the samples have no cameras; choose other data, or a detector for point clouds'
            )
        sizes = results.get('img_size') or [None] * len(results['img_filename'])
        images = [self._get(path, size) for path, size in zip(results['img_filename'], sizes, strict=True)]
        for path, image, intrinsic in zip(
            results['img_filename'], images, results.get('cam_intrinsic', ()), strict=False
        ):
            _check_centre(path, image, intrinsic)
        results['images'] = [image.astype(np.float32) for image in images] if self.to_float32 else images
        return results

    def _get(self, path: str, size: tuple[int, int] | None) -> np.ndarray:
        """One image, from what is kept or from disk; a kept one cannot be written to."""
        image = self._kept.get(path)
        if image is None or (size is not None and (image.shape[1], image.shape[0]) != tuple(size)):
            image = _read(path, size)
        if self.cache_mb:
            self._keep(path, image)
        return image

    def _keep(self, path: str, image: np.ndarray) -> None:
        """Note that an image was used last, and forget those whose use lies farthest back."""
        image.flags.writeable = False
        before = self._kept.pop(path, None)
        self._bytes += image.nbytes - (before.nbytes if before is not None else 0)
        self._kept[path] = image
        while self._bytes > self.cache_mb * 1e6:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes

    def __getstate__(self) -> dict[str, Any]:
        """A copy for another process starts with nothing kept."""
        return {**self.__dict__, '_kept': OrderedDict(), '_bytes': 0}

    def __repr__(self) -> str:
        return f'{type(self).__name__}(to_float32={self.to_float32}, cache_mb={self.cache_mb})'


def _check_centre(path: str, image: np.ndarray, intrinsic: np.ndarray) -> None:
    """Intrinsics (3, 3) of another image size show where their centre lies outside; info files may not know sizes."""
    x, y = intrinsic[:2, 2]
    height, width = image.shape[:2]
    if not (0 <= x <= width and 0 <= y <= height):
        raise UserError(
            f'image {path} is {width}x{height}, but the optical centre of its intrinsics lies at ({x:g}, {y:g}): they belong '
            'to another image size; restore the image, or mend camera_intrinsic and make the info files again'
        )


def _read(path: str, size: tuple[int, int] | None) -> np.ndarray:
    try:
        encoded = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise FileNotFoundError(
            f'image {path} cannot be read ({error.strerror}); check data_root (--data-root) or make the info files '
            'again with tools/create_data.py'
        ) from error
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if encoded.size else None
    if image is None:
        raise UserError(f'image {path} is not a readable picture ({encoded.size} bytes); copy it again')
    if size is not None and (image.shape[1], image.shape[0]) != tuple(size):
        raise UserError(
            f'image {path} is {image.shape[1]}x{image.shape[0]}, but the info file says {size[0]}x{size[1]} and the '
            'intrinsics belong to that size; restore the image, or the tables, and make the info files again'
        )
    return image

"""Colour jitter for several cameras."""

from typing import Any

import cv2
import numpy as np
from mmdet.datasets.builder import PIPELINES

_Range = tuple[float, float]
_Triple = tuple[float, float, float]


@PIPELINES.register_module()
class PhotoMetricDistortionMultiView:
    """Random brightness, contrast, saturation, hue and channel order, each with probability one half.

    It changes the decoded images, before any view is made of them: student and teacher see the same colours.

    Args:
        brightness_delta: largest shift of the pixel values.
        contrast_range: factor on the pixel values, before or after the colour changes (a coin decides).
        saturation_range: factor on the saturation.
        hue_delta: largest turn of the hue, degrees.
        shared_across_cameras: one draw for the whole frame; the original draws anew for every camera.
    """

    def __init__(
        self,
        brightness_delta: float = 32,
        contrast_range: _Range = (0.5, 1.5),
        saturation_range: _Range = (0.5, 1.5),
        hue_delta: float = 18,
        shared_across_cameras: bool = False,
    ) -> None:
        self.brightness_delta = brightness_delta
        self.contrast_range = contrast_range
        self.saturation_range = saturation_range
        self.hue_delta = hue_delta
        self.shared_across_cameras = shared_across_cameras

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replace ``results['images']`` by jittered float32 copies, drawn from ``results['rng']``."""
        rng = results['rng']
        shared = self._draw(rng) if self.shared_across_cameras else None
        results['images'] = [distort(image, **(shared or self._draw(rng))) for image in results['images']]
        return results

    def _draw(self, rng: np.random.Generator) -> dict[str, Any]:
        """Parameters for one image; a step that a coin leaves out has its neutral value."""
        return dict(
            brightness=_maybe(rng, 0.0, -self.brightness_delta, self.brightness_delta),
            contrast_first=rng.random() < 0.5,
            contrast=_maybe(rng, 1.0, *self.contrast_range),
            saturation=_maybe(rng, 1.0, *self.saturation_range),
            hue=_maybe(rng, 0.0, -self.hue_delta, self.hue_delta),
            channels=rng.permutation(3) if rng.random() < 0.5 else np.arange(3),
        )

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(brightness_delta={self.brightness_delta}, contrast_range={self.contrast_range}, '
            f'saturation_range={self.saturation_range}, hue_delta={self.hue_delta}, '
            f'shared_across_cameras={self.shared_across_cameras})'
        )


def _maybe(rng: np.random.Generator, neutral: float, low: float, high: float) -> float:
    return rng.uniform(low, high) if rng.random() < 0.5 else neutral


def distort(
    image: np.ndarray,
    brightness: float,
    contrast_first: bool,
    contrast: float,
    saturation: float,
    hue: float,
    channels: np.ndarray,
) -> np.ndarray:
    """Jitter one image: every step is an affine map of colours, in BGR or in HSV.

    Args:
        image: (H, W, 3) BGR, uint8 or float32; not changed.
        brightness: added to the pixel values.
        contrast_first: contrast before the step in HSV, else after it.
        contrast: factor on the pixel values.
        saturation: factor on S.
        hue: degrees added to H.
        channels: order of the output channels.

    Returns:
        (H, W, 3) float32; values may leave [0, 255].

    Example:
        >>> grey = np.full((1, 1, 3), 100.0, dtype=np.float32)
        >>> distort(grey, 10, True, 1.0, 1.0, 0.0, np.arange(3)).ravel()
        array([110., 110., 110.], dtype=float32)
    """
    early, late = (contrast, 1.0) if contrast_first else (1.0, contrast)
    out = _affine(image.astype(np.float32), (early,) * 3, (early * brightness,) * 3)
    if saturation != 1 or hue != 0:
        hsv = _affine(cv2.cvtColor(out, cv2.COLOR_BGR2HSV), (1.0, saturation, 1.0), (hue % 360, 0.0, 0.0))
        out = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)  # hues from 360 on are turned back, negative ones are not
    return _affine(out, (late,) * 3, (0.0, 0.0, 0.0), channels)


def _affine(
    image: np.ndarray, gain: _Triple, offset: _Triple, order: np.ndarray | slice = slice(None)
) -> np.ndarray:
    """``image * gain + offset`` per channel, channels then taken in ``order``."""
    matrix = np.column_stack([np.diag(gain), offset])[order]
    return image if np.array_equal(matrix, np.eye(3, 4)) else cv2.transform(image, matrix)

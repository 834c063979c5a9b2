"""Colour jitter for several cameras."""

from typing import Any

import cv2
import numpy as np
from mmdet.datasets.builder import PIPELINES

_Range = tuple[float, float]


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
        results['images'] = [self._distort(image, shared or self._draw(rng)) for image in results['images']]
        return results

    def _draw(self, rng: np.random.Generator) -> dict[str, Any]:
        """Parameters for one image; None stands for a step that is skipped."""

        def maybe(low: float, high: float) -> float | None:
            return rng.uniform(low, high) if rng.random() < 0.5 else None

        return dict(
            brightness=maybe(-self.brightness_delta, self.brightness_delta),
            contrast_first=rng.random() < 0.5,
            contrast=maybe(*self.contrast_range),
            saturation=maybe(*self.saturation_range),
            hue=maybe(-self.hue_delta, self.hue_delta),
            channels=rng.permutation(3) if rng.random() < 0.5 else None,
        )

    @staticmethod
    def _distort(image: np.ndarray, jitter: dict[str, Any]) -> np.ndarray:
        """(H, W, 3) BGR -> (H, W, 3) float32, values no longer bound to [0, 255]."""
        out = image.astype(np.float32)  # always a copy
        if jitter['brightness'] is not None:
            out += np.float32(jitter['brightness'])
        if jitter['contrast_first'] and jitter['contrast'] is not None:
            out *= np.float32(jitter['contrast'])
        if jitter['saturation'] is not None or jitter['hue'] is not None:
            out = _shift_colour(out, jitter['saturation'], jitter['hue'])
        if not jitter['contrast_first'] and jitter['contrast'] is not None:
            out *= np.float32(jitter['contrast'])
        return out if jitter['channels'] is None else np.ascontiguousarray(out[..., jitter['channels']])

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(brightness_delta={self.brightness_delta}, contrast_range={self.contrast_range}, '
            f'saturation_range={self.saturation_range}, hue_delta={self.hue_delta}, '
            f'shared_across_cameras={self.shared_across_cameras})'
        )


def _shift_colour(image: np.ndarray, saturation: float | None, hue: float | None) -> np.ndarray:
    """Scale saturation and turn hue of a float32 BGR image (H, W, 3)."""
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    if saturation is not None:
        hsv[..., 1] *= np.float32(saturation)
    if hue is not None:
        hsv[..., 0] += np.float32(hue)
        hsv[..., 0][hsv[..., 0] > 360] -= 360
        hsv[..., 0][hsv[..., 0] < 0] += 360
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)

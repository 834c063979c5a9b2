import cv2
import numpy as np
import pytest

from projects.mmdet3d_plugin.datasets.transforms.photo_metric_distortion_multi_view import (
    PhotoMetricDistortionMultiView,
    distort,
)

NEUTRAL = dict(
    brightness=0.0, contrast_first=True, contrast=1.0, saturation=1.0, hue=0.0, channels=np.arange(3)
)


@pytest.fixture
def image() -> np.ndarray:
    """(20, 30, 3) uint8 noise."""
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def step_by_step(image: np.ndarray, jitter: dict) -> np.ndarray:
    """The recipe as published: one simple step after the other, hue wrapped by hand."""
    out = image.astype(np.float32) + jitter['brightness']
    if jitter['contrast_first']:
        out = out * jitter['contrast']
    if jitter['saturation'] != 1 or jitter['hue'] != 0:
        hsv = cv2.cvtColor(out.astype(np.float32), cv2.COLOR_BGR2HSV)
        hsv[..., 1] *= jitter['saturation']
        hsv[..., 0] = (hsv[..., 0] + jitter['hue']) % 360
        out = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if not jitter['contrast_first']:
        out = out * jitter['contrast']
    return out[..., jitter['channels']]


@pytest.mark.parametrize('contrast_first', [True, False])
@pytest.mark.parametrize('hue', [-18.0, 0.0, 18.0])
@pytest.mark.parametrize('saturation', [0.5, 1.0, 1.5])
def test_jitter_equals_its_steps(
    image: np.ndarray, contrast_first: bool, hue: float, saturation: float
) -> None:
    jitter = dict(
        brightness=-25.0,
        contrast_first=contrast_first,
        contrast=1.4,
        saturation=saturation,
        hue=hue,
        channels=np.array([2, 0, 1]),
    )
    got = distort(image, **jitter)
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    assert np.abs(got - step_by_step(image, jitter)).max() < 2e-2


def test_neutral_jitter_changes_nothing_and_copies(image: np.ndarray) -> None:
    floats = image.astype(np.float32)
    got = distort(floats, **NEUTRAL)
    assert np.array_equal(got, image)
    assert not np.shares_memory(got, floats)


def test_draws_cover_every_step_within_its_range() -> None:
    transform, rng = PhotoMetricDistortionMultiView(), np.random.default_rng(0)
    draws = [transform._draw(rng) for _ in range(400)]
    for key, neutral, low, high in (
        ('brightness', 0, -32, 32),
        ('contrast', 1, 0.5, 1.5),
        ('saturation', 1, 0.5, 1.5),
        ('hue', 0, -18, 18),
    ):
        values = np.array([draw[key] for draw in draws])
        assert low <= values.min() < neutral < values.max() <= high
        assert 0.4 < (values == neutral).mean() < 0.6
    assert len({tuple(draw['channels']) for draw in draws}) == 6


def test_cameras_differ_unless_shared_and_the_seed_decides(image: np.ndarray) -> None:
    def run(shared: bool, seed: int) -> list[np.ndarray]:
        transform = PhotoMetricDistortionMultiView(shared_across_cameras=shared)
        return transform(dict(images=[image, image], rng=np.random.default_rng(seed)))['images']

    apart, together = run(False, 3), run(True, 3)
    assert not np.array_equal(*apart)
    assert np.array_equal(*together)
    assert np.array_equal(run(False, 3)[1], apart[1])
    assert not np.array_equal(run(False, 4)[0], apart[0])

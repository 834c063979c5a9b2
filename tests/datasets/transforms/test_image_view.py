from typing import Any

import numpy as np
import pytest

from projects.mmdet3d_plugin.datasets.transforms.image_view import ImageView


def frame(height: int = 90, width: int = 160, cams: int = 2, kind: type = np.uint8) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    pose = np.tile(np.eye(4), (cams, 1, 1))
    pose[1, :3, 3] = 1, 2, 3
    return dict(
        images=[rng.integers(0, 256, (height, width, 3), dtype=np.uint8).astype(kind) for _ in range(cams)],
        cam_intrinsic=np.tile(np.array([[100.0, 0, 80], [0, 100, 45], [0, 0, 1]]), (cams, 1, 1)),
        cam2lidar=pose,
    )


def project(view: dict[str, Any], cam: int, point: np.ndarray) -> np.ndarray:
    uvw = view['lidar2img'][cam] @ np.append(point, 1.0)
    return uvw[:2] / uvw[2]


@pytest.mark.parametrize(
    ('args', 'size'), [(dict(scale=0.5), (80, 45)), (dict(size=(64, 60)), (64, 60)), ({}, (160, 90))]
)
def test_pixels_of_points_scale_with_the_image(args: dict[str, Any], size: tuple[int, int]) -> None:
    view = ImageView(**args)(frame())['views']['']
    point = np.array([1.0, 0.5, 10.0])
    original = np.array([100 * 0.1 + 80, 100 * 0.05 + 45])
    assert np.allclose(project(view, 0, point), original * np.array(size) / (160, 90))
    assert np.allclose(project(view, 1, point + np.array([1, 2, 3])), project(view, 0, point))
    assert view['valid_shape'] == [size[::-1]] * 2
    assert view['img_shape'] == tuple(-(-side // 32) * 32 for side in size[::-1])
    assert view['img'].shape == (2, 3, *view['img_shape'])
    assert view['img'].dtype == np.float32


@pytest.mark.parametrize('kind', [np.uint8, np.float32])
@pytest.mark.parametrize('to_rgb', [False, True])
def test_values_are_normalised_per_channel_and_padded_with_zeros(kind: type, to_rgb: bool) -> None:
    results = frame(kind=kind)
    before = [image.copy() for image in results['images']]
    mean, std = (10.0, 20.0, 30.0), (1.0, 2.0, 4.0)
    img = ImageView(mean=mean, std=std, to_rgb=to_rgb)(results)['views']['']['img']
    expected = (np.stack(before).astype(np.float32)[..., :: -1 if to_rgb else 1] - mean) / std
    assert np.allclose(img[:, :, :90, :160], expected.transpose(0, 3, 1, 2), atol=1e-5)
    assert (img[:, :, 90:] == 0).all()
    assert img.shape[-2:] == (96, 160)
    assert all(np.array_equal(a, b) for a, b in zip(before, results['images'], strict=True))


def test_half_size_is_the_mean_of_four_pixels() -> None:
    results = frame(kind=np.float32)
    img = ImageView(scale=0.5, mean=(0, 0, 0))(results)['views']['']['img']
    expected = results['images'][0].reshape(45, 2, 80, 2, 3).mean((1, 3))
    assert np.allclose(img[0, :, :45, :80], expected.transpose(2, 0, 1), atol=1e-3)


def test_two_views_of_one_frame_are_independent() -> None:
    results = ImageView(scale=0.5)(frame())
    results = ImageView('teacher', mean=(1, 2, 3), to_rgb=True)(results)
    student, teacher = results['views'][''], results['views']['teacher']
    assert student['img'].shape[-2:] == (64, 96)
    assert teacher['img'].shape[-2:] == (96, 160)
    point = np.array([1.0, 0.5, 10.0])
    assert np.allclose(2 * project(student, 0, point), project(teacher, 0, point))
    assert results['cam_intrinsic'][0, 0, 0] == 100


def test_wrong_arguments_are_said() -> None:
    with pytest.raises(ValueError, match='scale or size, not both'):
        ImageView(scale=0.5, size=(1, 1))


def test_cameras_of_several_sizes_are_padded_to_the_largest() -> None:
    results = frame()
    results['images'][1] = results['images'][1][:50, :100]
    view = ImageView(scale=0.5, mean=(0, 0, 0))(results)['views']['']
    assert view['img'].shape == (2, 3, 64, 96)
    assert view['valid_shape'] == [(45, 80), (25, 50)]
    assert (view['img'][1, :, 25:] == 0).all()
    assert (view['img'][1, :, :, 50:] == 0).all()
    assert np.allclose(view['cam_intrinsic'][:, :2], results['cam_intrinsic'][:, :2] * 0.5)
    alone = ImageView(scale=0.5, mean=(0, 0, 0))({**frame(), 'images': [results['images'][1]] * 2})['views'][
        ''
    ]
    assert np.array_equal(view['img'][1, :, :25, :50], alone['img'][1, :, :25, :50])

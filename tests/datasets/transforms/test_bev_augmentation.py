"""Augmentation of images and of the world: whatever holds a place follows."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet3d.core.bbox import LiDARInstance3DBoxes
from mmdet3d.core.points import LiDARPoints

from projects.mmdet3d_plugin.common.config import CONFIG_ROOT, load_config
from projects.mmdet3d_plugin.common.geometry import box_corners, lidar_to_image, transform_points
from projects.mmdet3d_plugin.datasets.nuscenes_rig import LIDAR_TO_EGO, nuscenes_rig
from projects.mmdet3d_plugin.datasets.transforms.bev_augmentation import BEVAugmentation
from projects.mmdet3d_plugin.datasets.transforms.image_view import ImageView
from projects.mmdet3d_plugin.hosts.bevdepth.camera_matrices import CameraMatrices


def frame(seed: int = 0) -> dict:
    """A frame with a box, points in its corners, and black images."""
    intrinsics, cam2lidar = nuscenes_rig(2)
    boxes = torch.tensor([[2.0, 18, -1, 4, 2, 1.5, 0.3, 3, 1]])
    corners = torch.from_numpy(box_corners(boxes.numpy().astype(np.float64))[0])
    corners[:, 2] += 0.75  # the box stands on its z
    return dict(
        images=[np.zeros((900, 1600, 3), np.uint8) for _ in intrinsics],
        cam_intrinsic=intrinsics,
        cam2lidar=cam2lidar,
        lidar2ego=LIDAR_TO_EGO,
        ego2global=np.eye(4),
        gt_bboxes_3d=LiDARInstance3DBoxes(boxes, box_dim=9),
        points=LiDARPoints(corners.float()),
        queue_rng=np.random.default_rng(seed),
    )


@pytest.mark.parametrize('seed', range(6))
def test_boxes_points_and_cameras_stay_together(seed: int) -> None:
    plain, moved = frame(), BEVAugmentation(flip_x=0.5, flip_y=0.5)(frame(seed))
    before, after = (
        transform_points(
            f['points'].tensor.double().numpy(), lidar_to_image(f['cam_intrinsic'], f['cam2lidar'])[0]
        )
        for f in (plain, moved)
    )
    np.testing.assert_allclose(after / after[:, 2:], before / before[:, 2:], atol=1e-3)
    np.testing.assert_allclose(after[:, 2], before[:, 2], atol=1e-4)  # depth is what the camera measures
    boxes = moved['gt_bboxes_3d']
    gravity = torch.cat([boxes.gravity_center, boxes.tensor[:, 3:7]], 1).double().numpy()
    distance = np.linalg.norm(
        box_corners(gravity)[0][:, None] - moved['points'].tensor.double().numpy(), axis=-1
    )
    assert distance.min(0).max() < 1e-4  # the same corners, in another order where the world is mirrored
    velocity = moved['bda'][:2, :2] @ [3, 1]
    np.testing.assert_allclose(boxes.tensor[0, 7:].numpy(), velocity, atol=1e-5)


def test_lifted_pixels_land_in_the_augmented_world_in_either_frame() -> None:
    moved = BEVAugmentation()(frame(3))
    view = ImageView(crop=(704, 256), augment=dict(scale=(0.386, 0.55), flip=0.5, rotate=5.4))(moved)[
        'views'
    ]['']
    meta = {
        **{k: moved[k] for k in ('cam2lidar', 'lidar2ego', 'ego2global', 'bda')},
        **{k: view[k] for k in ('cam_intrinsic', 'ida')},
    }
    point = moved['points'].tensor[:1].double().numpy()
    u, v, depth = transform_points(point, view['lidar2img'][0])[0]
    pixel = torch.tensor([[[u / depth, v / depth]]], dtype=torch.float64)
    for name, expected in (('lidar', point[0]), ('ego', transform_points(point, LIDAR_TO_EGO)[0])):
        matrices = CameraMatrices.of([meta], frame=name)
        origin, ray = matrices.rays(pixel)
        np.testing.assert_allclose((origin[0, 0] + depth * ray[0, 0, 0, 0]).numpy(), expected, atol=1e-4)
        np.testing.assert_allclose(matrices.intrinsic[0].numpy(), moved['cam_intrinsic'], atol=1e-6)


@pytest.mark.parametrize('seed', range(4))
def test_a_bright_spot_is_found_where_the_matrix_says(seed: int) -> None:
    results = frame(seed)
    results['images'][0][690:710, 790:810] = 255  # around (799.5, 699.5)
    view = ImageView(crop=(704, 256), augment=dict(scale=(0.386, 0.55), flip=0.5, rotate=5.4))(results)[
        'views'
    ]['']
    light = view['img'][0, 0] - view['img'][0, 0].min()
    place = (np.indices(light.shape)[::-1] * light).sum((1, 2)) / light.sum()
    expected = view['ida'][0] @ [799.5, 699.5, 1]
    np.testing.assert_allclose(place, expected[:2], atol=0.8)  # a resize moves by up to half a pixel
    assert view['img'].shape[-2:] == (256, 704)


def test_frames_that_draw_alike_are_augmented_alike() -> None:
    one, other = (BEVAugmentation()(frame(5))['bda'] for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert not np.allclose(one, BEVAugmentation()(frame(6))['bda'])


def test_crop_without_chance_is_at_the_bottom_in_the_middle() -> None:
    view = ImageView(scale=0.44, crop=(704, 256))(frame())['views']['']
    np.testing.assert_allclose(view['ida'][0], [[0.44, 0, 0], [0, 0.44, -140], [0, 0, 1]])
    small = {**frame(), 'images': [np.zeros((180, 320, 3), np.uint8)] * 2}  # a synthetic world's
    view = ImageView(size=(256, 144), crop=(256, 128))(small)['views']['']
    np.testing.assert_allclose(view['ida'][0], [[0.8, 0, 0], [0, 0.8, -16], [0, 0, 1]])
    with pytest.raises(ValueError, match='crop'):
        ImageView(augment=dict(flip=0.5))
    with pytest.raises(ValueError, match='shear'):
        ImageView(crop=(8, 8), augment=dict(shear=1))


@pytest.mark.parametrize(
    'path', sorted(CONFIG_ROOT.glob('synthetic/bevdepth_*.py')), ids=lambda path: path.stem
)
def test_images_of_a_world_fill_the_view_whatever_their_size(path: Path) -> None:
    """A scale meant for images of 1600x900 left those of synthetic worlds, 320x180, as a stamp in a black corner. Teacher and
    student show the same part, since their image features are compared cell by cell."""
    for step in load_config(path).data.test.pipeline:
        if step['type'] == 'ImageView':
            assert step['crop'][0] == step['size'][0] == 2 * step['crop'][1]
            assert step['size'][0] * 9 == step['size'][1] * 16

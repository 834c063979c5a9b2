"""Where points of the LiDAR frame appear in the cameras of a rig."""

import numpy as np
import torch
from torch import Tensor

from projects.mmdet3d_plugin.common.errors import UserError

MIN_DEPTH = 1e-5


@torch.compiler.disable  # numpy that a graph cannot hold
def camera_geometry(
    img_metas: list[dict], device: torch.device, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Projections and sizes of all cameras of a batch.

    Args:
        img_metas: one dict per sample with ``lidar2img`` and ``img_shape``, see the dataset.
        device: where the results live.
        dtype: of the results.

    Returns:
        (B, num_cams, 4, 4), LiDAR frame (metres) to pixels of the padded image, and (B, num_cams, 2), (width, height) of
        the padded images in pixels.

    Raises:
        UserError: a matrix holds a number that is not finite.
    """
    lidar2img = np.stack([meta['lidar2img'] for meta in img_metas])
    broken = ~np.isfinite(lidar2img).all((1, 2, 3))
    if broken.any():
        token = img_metas[int(broken.argmax())].get('sample_token')
        raise UserError(
            f'lidar2img of the frame {token!r} holds a number that is not finite: look at its calibration'
        )
    size = [[(shape[1], shape[0]) for shape in meta['img_shape']] for meta in img_metas]
    return torch.from_numpy(lidar2img).to(device, dtype), torch.tensor(size, dtype=dtype, device=device)


def filled_share(img_metas: list[dict], img_shape: Tensor) -> Tensor:
    """What of the padded images is image.

    Args:
        img_metas: one dict per sample with ``valid_shape``, (h, w, 3) of every camera.
        img_shape: (B, num_cams, 2), (width, height) of the padded images in pixels.

    Returns:
        (B, num_cams, 2), shares of width and height.
    """
    size = [[(shape[1], shape[0]) for shape in meta['valid_shape']] for meta in img_metas]
    return img_shape.new_tensor(size) / img_shape


def project_to_cameras(points: Tensor, lidar2img: Tensor, img_shape: Tensor) -> tuple[Tensor, Tensor]:
    """Project LiDAR-frame points into every camera of every sample.

    Args:
        points: (Q, D, 3) that all samples share, or (B, Q, D, 3); metres.
        lidar2img: (B, num_cams, 4, 4), LiDAR frame to pixels of the padded image.
        img_shape: (B, num_cams, 2), (width, height) of each padded image in pixels.

    Returns:
        (B, num_cams, Q, D, 2) in units of the image, and the (B, num_cams, Q, D) mask of points that lie in
        front of the camera and inside its image.

    Example:
        >>> points = torch.tensor([[[0.0, 0.0, 10.0]]])  # 10 m ahead of a camera that looks along z
        >>> lidar2img = torch.tensor([[100.0, 0, 80, 0], [0, 100, 48, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        >>> places, visible = project_to_cameras(points, lidar2img[None, None], torch.tensor([[[160.0, 96.0]]]))
        >>> places.flatten(), visible.flatten()  # the middle of the image
        (tensor([0.5000, 0.5000]), tensor([True]))
    """
    rotation, translation = lidar2img[..., :3, :3], lidar2img[..., :3, 3]
    formula = 'bnij,qdj->bnqdi' if points.dim() == 3 else 'bnij,bqdj->bnqdi'
    cam = torch.einsum(formula, rotation, points) + translation[:, :, None, None]
    depth = cam[..., 2:3]
    uv = cam[..., :2] / depth.clamp(min=MIN_DEPTH) / img_shape[:, :, None, None]
    inside = ((uv > 0) & (uv < 1)).all(-1) & (depth[..., 0] > MIN_DEPTH)
    return uv, inside

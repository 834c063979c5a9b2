"""Where the cameras of a frame stand and how their pixels were moved, as lift-splat hosts need it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from projects.mmdet3d_plugin.common.errors import UserError

FRAMES = ('lidar', 'ego')


@dataclass(frozen=True)
class CameraMatrices:
    """B samples of N cameras, float64. A pixel (u, v) at depth d lies at ``bda cam2frame K^-1 ida^-1 (ud, vd, d)``.

    Args:
        cam2frame: (B, N, 4, 4) optical frame of each camera to the frame of the BEV, before augmentation, metres.
        intrinsic: (B, N, 3, 3) of the image as it was taken, pixels.
        ida: (B, N, 3, 3) what resize, crop, flip and rotation do to pixels ``(u, v, 1)``.
        bda: (B, 4, 4) what BEV augmentation does to the frame.
    """

    cam2frame: Tensor
    intrinsic: Tensor
    ida: Tensor
    bda: Tensor

    def to(self, device: torch.device) -> 'CameraMatrices':
        """The same on another device."""
        return CameraMatrices(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))

    @classmethod
    def of(
        cls,
        metas: Sequence[dict[str, Any]],
        present: Sequence[dict[str, Any]] | None = None,
        frame: str = 'lidar',
    ) -> 'CameraMatrices':
        """Matrices of one frame of each sample, in the BEV frame of the present one.

        Args:
            metas: B dicts with ``cam2lidar``, ``cam_intrinsic``, ``lidar2ego`` and ``ego2global`` (and ``ida`` and
                ``bda`` where images or BEV were augmented).
            present: the same of the frames whose BEV is wanted, where that is another frame.
            frame: 'lidar', or 'ego': x ahead, y left, on the ground below the rear axle.

        Raises:
            UserError: a sample has no calibration, one with numbers that are not finite, or another number of cameras than
                the others.
        """
        counts = [len(meta['cam2lidar']) for meta in metas if 'cam2lidar' in meta]
        if len(set(counts)) > 1:
            raise UserError(
                f'samples of one batch have {sorted(set(counts))} cameras: give each number batches of its own'
            )
        parts = [
            _of_sample(meta, meta if now is None else now, frame)
            for meta, now in zip(metas, present or [None] * len(metas), strict=True)
        ]
        return cls(*(torch.from_numpy(np.stack(values)) for values in zip(*parts, strict=True)))

    def rays(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Lines that pixels see.

        Args:
            pixels: (h, w, 2) float64 (u, v) of the augmented image.

        Returns:
            Origins (B, N, 3) and rays (B, N, h, w, 3), metres and metres per metre of depth.
        """
        moved = self.bda[:, None] @ self.cam2frame
        homogeneous = torch.nn.functional.pad(pixels.to(moved), (0, 1), value=1.0)
        inverse = inverse_3x3 if torch.onnx.is_in_onnx_export() else torch.linalg.inv
        lens = moved[..., :3, :3] @ inverse(self.ida @ self.intrinsic)
        return moved[..., :3, 3], torch.einsum('bnij,hwj->bnhwi', lens, homogeneous)

    def numbers(self) -> Tensor:
        """(B, N, 27): intrinsics, augmentations and poses, the input of BEVDepth's camera-aware attention."""
        k, ida = self.intrinsic, self.ida
        bda = self.bda[:, None].expand(-1, k.shape[1], -1, -1)
        picked = [k[..., 0, 0], k[..., 1, 1], k[..., 0, 2], k[..., 1, 2]]
        picked += [ida[..., i, j] for i in (0, 1) for j in (0, 1, 2)]
        picked += [bda[..., 0, 0], bda[..., 0, 1], bda[..., 1, 0], bda[..., 1, 1], bda[..., 2, 2]]
        return torch.cat([torch.stack(picked, -1), self.cam2frame[..., :3, :].flatten(-2)], -1)


def inverse_3x3(matrix: Tensor) -> Tensor:
    """Inverse of (..., 3, 3) by its cofactors, for graphs, in which there is no other way.

    Example:
        >>> inverse_3x3(torch.diag(torch.tensor([1.0, 2.0, 4.0]))).diagonal()
        tensor([1.0000, 0.5000, 0.2500])
    """
    columns = matrix.unbind(-1)
    rows = [_cross(columns[(i + 1) % 3], columns[(i + 2) % 3]) for i in range(3)]
    return torch.stack(rows, -2) / (rows[0] * columns[0]).sum(-1)[..., None, None]


def _cross(one: Tensor, other: Tensor) -> Tensor:
    """Cross product of (..., 3)."""
    (a, b, c), (x, y, z) = one.unbind(-1), other.unbind(-1)
    return torch.stack([b * z - c * y, c * x - a * z, a * y - b * x], -1)


def _of_sample(meta: dict[str, Any], present: dict[str, Any], frame: str) -> tuple[np.ndarray, ...]:
    """cam2frame, intrinsic, ida and bda of one sample."""
    for key in ('cam2lidar', 'cam_intrinsic') + (('lidar2ego', 'ego2global') if present is not meta else ()):
        for who in (meta, present):
            if key not in who or not np.isfinite(who[key]).all():
                raise UserError(
                    f'sample {who.get("sample_token", "?")} has no usable {key!r}: without the calibration of all '
                    'cameras features cannot be lifted; make the info files again with tools/create_data.py'
                )
    cam2lidar = np.asarray(meta['cam2lidar'], np.float64)  # to the augmented LiDAR frame
    if present is not meta:
        here, there = (np.asarray(m['ego2global']) @ m['lidar2ego'] for m in (present, meta))
        cam2lidar = np.linalg.inv(here) @ there @ cam2lidar
    to_frame = np.eye(4) if frame == 'lidar' else lidar_to_ego(present)
    bda = np.asarray(present.get('bda', np.eye(4)), np.float64)
    bda = to_frame @ bda @ np.linalg.inv(to_frame)
    ida = np.asarray(meta.get('ida', np.broadcast_to(np.eye(3), (len(cam2lidar), 3, 3))), np.float64)
    intrinsic = np.linalg.solve(ida, np.asarray(meta['cam_intrinsic'], np.float64))
    return np.linalg.inv(bda) @ to_frame @ cam2lidar, intrinsic, ida, bda


def lidar_to_ego(meta: dict[str, Any]) -> np.ndarray:
    """(4, 4) of a sample.

    Raises:
        UserError: its metas lack it.
    """
    if 'lidar2ego' not in meta:
        raise UserError(
            f"sample {meta.get('sample_token', '?')} has no 'lidar2ego', which frame='ego' needs; train with frame='lidar'"
        )
    return np.asarray(meta['lidar2ego'], np.float64)

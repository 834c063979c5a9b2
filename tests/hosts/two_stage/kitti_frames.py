"""Real KITTI frames as clouds and boxes in the LiDAR frame."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FRAMES = ('000000', '000001', '000002', '000003', '000008')


def _matrices(text: str) -> dict[str, np.ndarray]:
    rows = (line.split(':') for line in text.splitlines() if ':' in line)
    return {name: np.array(numbers.split(), np.float64) for name, numbers in rows}


def real_frame(root: Path, frame: str) -> tuple[Tensor, Tensor]:
    """A cloud (N, 4) and the boxes (n, 7) of its labelled objects, bottom centres."""
    folder = root / 'training'
    calib = _matrices((folder / f'calib/{frame}.txt').read_text())
    mount, turn = np.eye(4), np.eye(4)
    mount[:3], turn[:3, :3] = calib['Tr_velo_to_cam'].reshape(3, 4), calib['R0_rect'].reshape(3, 3)
    back, boxes = np.linalg.inv(turn @ mount), []
    for line in (folder / f'label_2/{frame}.txt').read_text().splitlines():
        name, *numbers = line.split()
        h, w, l, x, y, z, yaw = map(float, numbers[7:14])
        if name != 'DontCare':
            boxes.append([*(back @ [x, y, z, 1])[:3], l, w, h, -yaw - np.pi / 2])
    points = np.fromfile(folder / f'velodyne/{frame}.bin', np.float32).reshape(-1, 4)
    return torch.from_numpy(points), torch.tensor(np.array(boxes), dtype=torch.float32)

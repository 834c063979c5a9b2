"""A camera rig like that of nuScenes, so that visibility in benchmarks is that of a real car."""

import math

import torch
from torch import Tensor

# yaw of the optical axis (degrees, from the LiDAR's x axis), focal length (pixels), position in the LiDAR frame (m)
CAMERAS = {
    'CAM_FRONT': (90.0, 1266.0, (0.0, 0.75, -0.33)),
    'CAM_FRONT_RIGHT': (35.0, 1261.0, (0.49, 0.6, -0.34)),
    'CAM_FRONT_LEFT': (145.0, 1273.0, (-0.49, 0.6, -0.33)),
    'CAM_BACK': (-90.0, 809.0, (0.0, -0.9, -0.3)),
    'CAM_BACK_LEFT': (-162.0, 1257.0, (-0.48, 0.1, -0.25)),
    'CAM_BACK_RIGHT': (-18.0, 1260.0, (0.48, 0.1, -0.28)),
}
WIDTH, HEIGHT = 1600, 900


def lidar_to_image(scale: float) -> Tensor:
    """(num_cams, 4, 4) float32: LiDAR frame (metres) to pixels of an image scaled by ``scale``."""
    matrices = []
    for yaw, focal, position in CAMERAS.values():
        c, s = math.cos(math.radians(yaw)), math.sin(math.radians(yaw))
        rotation = torch.tensor([[s, -c, 0.0], [0.0, 0.0, -1.0], [c, s, 0.0]])
        centre = (
            torch.tensor([[focal, 0.0, WIDTH / 2], [0.0, focal, HEIGHT / 2], [0.0, 0.0, 1 / scale]]) * scale
        )
        matrix = torch.eye(4)
        matrix[:3, :3] = centre @ rotation
        matrix[:3, 3] = -centre @ rotation @ torch.tensor(position)
        matrices.append(matrix)
    return torch.stack(matrices)

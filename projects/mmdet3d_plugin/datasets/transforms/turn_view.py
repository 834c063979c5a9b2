"""The second look of mining: a frame mirrored, turned and scaled, as its name decides."""

from typing import Any

import torch
from mmdet.datasets.builder import PIPELINES

from projects.mmdet3d_plugin.common.geometry import transform_points
from projects.mmdet3d_plugin.datasets.sparse.mining_settings import MiningSettings


@PIPELINES.register_module()
class TurnView:
    """Move the points of a frame into its second view, see ``MiningSettings.view``; put it after what loads points.

    Args:
        settings: of mining.
        seed: of mining.
        iteration: of mining, from 1.
    """

    def __init__(self, settings: dict[str, Any], seed: int, iteration: int) -> None:
        self.settings = MiningSettings.from_config(settings, 'self_training.mine')
        self.seed, self.iteration = seed, iteration

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Move ``results['points']``."""
        frame = str(results['sample_idx']).zfill(6)
        matrix = torch.from_numpy(self.settings.view(self.seed, self.iteration, frame).matrix)
        cloud = results['points'].tensor
        cloud[:, :3] = transform_points(cloud[:, :3].double(), matrix).to(cloud)
        return results

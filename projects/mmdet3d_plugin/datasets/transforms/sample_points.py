"""Thin a cloud out to a number of points."""

from typing import Any

import numpy as np
import torch
from mmdet.datasets.builder import PIPELINES

from projects.mmdet3d_plugin.common.errors import UserError


@PIPELINES.register_module()
class SamplePoints:
    """Keep so many points of a cloud at the most: all far ones, and some near ones by chance, in any order.

    mmdet3d's ``PointSample`` fills smaller clouds up with copies, and fails where there is no point. Here a cloud that has
    fewer points keeps them as they are.

    Args:
        number: of points.
        far: metres from the sensor, from which on points are kept first; where even those are too many, some of them.
    """

    def __init__(self, number: int, far: float = 40.0) -> None:
        if number < 1:
            raise UserError(f'SamplePoints: number is {number}: it must be at least 1')
        self.number, self.far = number, far

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Choose among ``results['points']``."""
        points = results['points']
        if len(points) <= self.number:
            return results
        distance = np.linalg.norm(points.tensor[:, :3].numpy(), axis=1)
        far, near = (np.flatnonzero(which) for which in (distance >= self.far, distance < self.far))
        if len(far) >= self.number:
            chosen = np.random.choice(far, self.number, replace=False)
        else:
            more = np.random.choice(near, self.number - len(far), replace=False)
            chosen = np.random.permutation(np.concatenate([far, more]))
        results['points'] = points[torch.from_numpy(chosen)]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(number={self.number}, far={self.far})'

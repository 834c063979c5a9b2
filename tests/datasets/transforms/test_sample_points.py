"""Thinning a cloud out."""

import pytest
import torch
from mmdet3d.core.points import LiDARPoints

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.rng import drawn_from
from projects.mmdet3d_plugin.datasets.transforms.sample_points import SamplePoints


def left_of(distances: list[float], number: int, seed: int = 0) -> list[float]:
    points = torch.zeros(len(distances), 4)
    points[:, 1] = torch.tensor(distances)
    with drawn_from(seed):
        return (
            SamplePoints(number, far=40.0)(dict(points=LiDARPoints(points, 4)))['points']
            .tensor[:, 1]
            .tolist()
        )


def test_far_points_stay_and_near_ones_are_chosen_by_chance() -> None:
    cloud = [float(i) for i in range(60)]
    found = left_of(cloud, 30)
    assert sorted(found)[-20:] == cloud[40:]
    assert len(set(found)) == 30
    assert found != sorted(found)
    assert left_of(cloud, 30) == found
    assert left_of(cloud, 30, seed=1) != found
    assert all(distance >= 40 for distance in left_of(cloud, 10))
    assert len(left_of(cloud, 10)) == 10


def test_a_smaller_cloud_stays_as_it_is_and_an_empty_one_too() -> None:
    assert left_of([1.0, 50.0], 2) == [1.0, 50.0]
    assert left_of([1.0, 50.0], 3) == [1.0, 50.0]
    assert left_of([], 3) == []
    with pytest.raises(UserError, match='number is 0'):
        SamplePoints(0)

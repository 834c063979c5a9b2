"""Clouds without a point in range: nothing is found, nothing crashes, and the other clouds of the batch do not notice."""

from typing import Any

import pytest
import torch
from mmcv import Config
from torch import nn

from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.hosts.lidar.voxel_detectors import out_of_range
from tests.hosts.lidar.test_voxel_detectors import DETECTORS
from tests.lidar_factories import emptied, fresh, lidar_batch, total

BATCHES = {'alone': (1, [0]), 'first of two': (2, [0]), 'last of two': (2, [1]), 'both': (2, [0, 1])}


def build(cfg: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    return build_model(Config(dict(model=fresh(cfg))).model)


def detect(model: nn.Module, batch: dict[str, Any]) -> list[dict[str, Any]]:
    with torch.no_grad():
        results = model(return_loss=False, points=[batch['points']], img_metas=[batch['img_metas']])
    return [result.get('pts_bbox', result) for result in results]


@pytest.mark.parametrize('outside', [False, True], ids=['no points', 'all out of range'])
@pytest.mark.parametrize('batch', BATCHES)
@pytest.mark.parametrize(('cfg', 'dim'), DETECTORS)
def test_training_and_testing(cfg: dict[str, Any], dim: int, batch: str, outside: bool) -> None:
    size, empty = BATCHES[batch]
    data = emptied(lidar_batch(list(range(size)), dim), empty, outside)
    model = build(cfg).train()
    loss = total(model.forward_train(**data))
    loss.backward()
    assert loss.isfinite()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []
    assert all(weight.grad.isfinite().all() for weight in model.parameters())
    assert all(value.isfinite().all() for value in model.state_dict().values())
    found = [len(result['scores_3d']) for result in detect(model.eval(), data)]
    assert [count > 0 for count in found] == [i not in empty for i in range(size)]


@pytest.mark.parametrize(('cfg', 'dim'), DETECTORS)
def test_a_batch_of_two_equals_two_of_one(cfg: dict[str, Any], dim: int) -> None:
    model = build(cfg).eval()
    for empty in ([], [0], [1]):
        batch = emptied(lidar_batch([0, 1], dim), empty, True)
        one_by_one = [{key: value[i : i + 1] for key, value in batch.items()} for i in range(2)]
        together, apart = detect(model, batch), [detect(model, single)[0] for single in one_by_one]
        for two, one in zip(together, apart, strict=True):
            torch.testing.assert_close(two['scores_3d'], one['scores_3d'])
            torch.testing.assert_close(two['boxes_3d'].tensor, one['boxes_3d'].tensor)
            assert two['labels_3d'].tolist() == one['labels_3d'].tolist()


@pytest.mark.parametrize(('cfg', 'dim'), DETECTORS)
def test_one_voxel_is_enough(cfg: dict[str, Any], dim: int) -> None:
    batch = lidar_batch([0], dim)
    batch['points'] = [batch['points'][0][:1]]
    model = build(cfg).train()
    assert total(model.forward_train(**batch)).isfinite()


def test_the_border_of_the_range_is_the_voxel_layers() -> None:
    layer = build(DETECTORS[0].values[0]).voxel_layer.eval()
    low, high = torch.tensor(layer.point_cloud_range).view(2, 3).tolist()
    for point in (
        low,
        high,
        [high[0] - 1e-3, *low[1:]],
        [low[0] - 1e-3, *low[1:]],
        [low[0], high[1], low[2]],
    ):
        cloud = torch.tensor([[*point, 0.5]])
        assert out_of_range(layer, [cloud]) == [len(layer(cloud)[0]) == 0]

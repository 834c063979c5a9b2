"""mmdet3d's voxel detectors train and test on this CPU: dense and sparse, anchors and centres."""

import importlib.util
from typing import Any

import pytest
import torch
from mmcv import Config
from torch import nn

from projects.mmdet3d_plugin.common.models import build_model
from tests.lidar_factories import (
    centerpoint_config,
    lidar_batch,
    mvx_config,
    one_view,
    pillar_config,
    second_config,
    total,
)

HAS_SPCONV = importlib.util.find_spec('spconv') is not None
sparse = pytest.mark.skipif(not HAS_SPCONV, reason='needs spconv (requirements/runtime.txt): run make setup')
DETECTORS = [
    pytest.param(pillar_config(), 7, id='PointPillars'),
    pytest.param(centerpoint_config(), 9, id='CenterPoint-pillar'),
    pytest.param(mvx_config(), 7, id='PointPillars with FPN'),
    pytest.param(second_config(), 7, id='SECOND', marks=sparse),
    pytest.param(centerpoint_config(sparse=True), 9, id='CenterPoint-voxel', marks=sparse),
]


def build(cfg: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    model = build_model(Config(dict(model=cfg)).model)
    model.init_weights()
    return model


@pytest.mark.parametrize(('cfg', 'dim'), DETECTORS)
def test_a_few_steps_lower_the_loss_and_reach_every_weight(cfg: dict[str, Any], dim: int) -> None:
    model, batch = build(cfg).train(), lidar_batch([0, 1], dim)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    losses = []
    for _ in range(6):
        loss = total(model.forward_train(**batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize(('cfg', 'dim'), DETECTORS)
def test_testing_gives_boxes_per_sample(cfg: dict[str, Any], dim: int) -> None:
    model = build(cfg).eval()
    with torch.no_grad():
        results = model(return_loss=False, **one_view([0, 1]))
    assert len(results) == 2
    for result in results:
        found = result.get('pts_bbox', result)
        assert found['boxes_3d'].tensor.shape == (len(found['scores_3d']), dim)


@sparse
def test_sparse_convolution_equals_a_dense_one() -> None:
    """A submanifold convolution is a dense one read where there are voxels; its gradients are those too."""
    from spconv.pytorch import SparseConvTensor, SubMConv3d

    torch.manual_seed(0)
    cells = torch.rand(6, 6, 6) < 0.3
    coors = torch.cat([torch.zeros(int(cells.sum()), 1), cells.nonzero()], 1).int()
    features = torch.randn(len(coors), 3, requires_grad=True)
    layer = SubMConv3d(3, 4, 3, padding=1, bias=False)
    ours = layer(SparseConvTensor(features, coors, [6, 6, 6], 1)).features
    places = tuple(coors[:, 1:].long().T)
    volume = torch.zeros(6, 6, 6, 3).index_put(places, features).permute(3, 0, 1, 2)
    kernel = layer.weight.permute(0, 4, 1, 2, 3)  # spconv's are (out, 3, 3, 3, in)
    dense = nn.functional.conv3d(volume[None], kernel, padding=1)[0].permute(1, 2, 3, 0)[places]
    torch.testing.assert_close(ours, dense)
    direction = torch.randn_like(ours)
    for one, other in zip(
        torch.autograd.grad((ours * direction).sum(), (features, layer.weight)),
        torch.autograd.grad((dense * direction).sum(), (features, layer.weight)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@sparse
def test_weights_of_a_sparse_detector_come_back(tmp_path: Any) -> None:
    """spconv turns weights around unless a file says which layout it has; ours do, through our own engine too."""
    from projects.mmdet3d_plugin.common.checkpoint import load_weights, plain_state, write_checkpoint

    model, other = build(second_config()), build(second_config())
    nn.init.normal_(model.middle_encoder.conv_input[0].weight)
    write_checkpoint(tmp_path / 'a.pth', dict(state_dict=plain_state(model), meta={}))
    load_weights(other, tmp_path / 'a.pth')
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name

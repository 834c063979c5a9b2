"""How papers count, on layers that can be counted by hand."""

import importlib.util

import pytest
import torch
from mmcv.cnn import get_model_complexity_info
from torch import Tensor, nn

from projects.mmdet3d_plugin.studies.cost.cost_rules import LayerTally, PublishedRule
from projects.mmdet3d_plugin.studies.cost.op_counter import OpCounter

HAS_SPCONV = importlib.util.find_spec('spconv') is not None


def test_published_rule_is_mmcvs() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 5)
    )
    reference, _ = get_model_complexity_info(model, (3, 8, 8), print_per_layer_stat=False, as_strings=False)
    counter = OpCounter(model)
    rule = PublishedRule(model, counter)
    with counter.counting():
        model(torch.zeros(1, 3, 8, 8))
    rule.remove()
    assert rule.macs['other'] == reference


def test_published_rows_take_the_place_of_computed_ones() -> None:
    """A layer of which a published figure counts as many rows as the model's input has columns."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.offsets, self.out = nn.Linear(4, 3, bias=False), nn.Linear(3, 2, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.offsets(x))

    model = Attention()
    counter = OpCounter(model)
    plain = PublishedRule(model, counter)
    other = PublishedRule(model, counter, {model: lambda inputs: {model.offsets: inputs[0].shape[1]}})
    with counter.counting():
        model(torch.zeros(10, 4))
    assert plain.macs['other'] == 10 * 4 * 3 + 10 * 3 * 2
    assert other.macs['other'] == 4 * 4 * 3 + 10 * 3 * 2


@pytest.mark.skipif(not HAS_SPCONV, reason='needs spconv (requirements/runtime.txt): run make setup')
def test_sparse_convolutions_are_counted_by_their_pairs() -> None:
    """Two voxels side by side under a 3x3x3 kernel: each meets itself and the other, four pairs."""
    from spconv.pytorch import SparseConvTensor, SubMConv3d

    layer = nn.Sequential(SubMConv3d(3, 5, 3, padding=1, bias=False))
    counter = OpCounter(layer)
    tally = LayerTally(layer, counter)
    coors = torch.tensor([[0, 2, 2, 2], [0, 2, 2, 3]], dtype=torch.int32)
    with counter.counting():
        layer[0](SparseConvTensor(torch.rand(2, 3), coors, [6, 6, 6], 1))
    assert counter.macs['other'].total() == 4 * 3 * 5
    assert tally.activations['other'] == 2 * 5


def test_a_transposed_convolution_costs_more_by_sparsekds_rule() -> None:
    layer = nn.Sequential(nn.ConvTranspose2d(3, 5, 2, stride=2, bias=False))
    counter = OpCounter(layer)
    tally = LayerTally(layer, counter)
    layer(torch.rand(2, 3, 4, 4))
    assert tally.surcharge['other'] == 2 * (64 - 16) * 3 * 5 * 4
    tally.remove()
    layer(torch.rand(2, 3, 4, 4))
    assert tally.activations['other'] == 2 * 5 * 64

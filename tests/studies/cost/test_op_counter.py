"""Multiply-accumulates and live bytes of toy models, against sums done by hand."""

import pytest
import torch
from mmcv.ops import ModulatedDeformConv2dPack, modulated_deform_conv
from torch import Tensor, nn

from projects.mmdet3d_plugin.ops import ms_deform_attn as doors
from projects.mmdet3d_plugin.studies.cost.op_counter import SAMPLING_MACS, LiveBytes, OpCounter


def count(model: nn.Module, *inputs: Tensor) -> OpCounter:
    counter = OpCounter(model)
    with counter.counting():
        model(*inputs)
    return counter


def test_convolution_and_linear() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(2), nn.Linear(35, 4))
    macs = count(model, torch.zeros(2, 3, 5, 7)).macs['other']
    assert macs == {'convolution': 2 * 8 * 5 * 7 * 3 * 9, 'addmm': 2 * 8 * 35 * 4}


def test_convolution_on_the_meta_device_counts_the_same() -> None:
    model = nn.Conv2d(3, 8, 3, stride=2).to('meta')
    macs = count(model, torch.zeros(1, 3, 9, 9, device='meta')).macs['other']
    assert macs == {'convolution': 8 * 4 * 4 * 27}


def test_attention_of_queries() -> None:
    model = nn.MultiheadAttention(16, 4, batch_first=True)
    x = torch.zeros(1, 10, 16)
    macs = count(model, x, x, x).macs['other']
    assert macs.total() == 4 * 10 * 16 * 16 + 2 * 10 * 10 * 16


def test_deformable_convolution() -> None:
    model = ModulatedDeformConv2dPack(4, 6, 3, padding=1, bias=False)
    macs = count(model, torch.zeros(2, 4, 5, 5)).macs['other']
    assert macs['deformable convolution'] == 2 * 25 * 6 * 4 * 9
    assert macs['deformable convolution, sampling'] == SAMPLING_MACS * 2 * 25 * 4 * 9
    assert macs['convolution'] == 2 * 25 * 27 * 4 * 9


class Attention(nn.Module):
    """Calls a door as the hosts do, by the name it was imported under."""

    def __init__(self, door: str) -> None:
        super().__init__()
        self.door = door

    def forward(self, value: Tensor) -> Tensor:
        q, m, points = 7, 4, 3
        inputs = {
            'ms_deform_attn': (torch.zeros(2, q, m, 1, points, 2), torch.zeros(2, q, m, 1, points)),
            'ms_deform_attn_fused': (
                torch.zeros(2, q, m, 1, points, 2),
                torch.zeros(2, q, m, points),
                torch.zeros(2, q, 1, 2),
            ),
            # two maps look at one sample of queries, in five pairs
            'ms_deform_attn_packed': (
                torch.zeros(1, q, m, 1, points, 2),
                torch.zeros(1, q, m, points),
                torch.zeros(5, 1, 2),
                torch.zeros(5, dtype=torch.int64),
                torch.zeros(5, dtype=torch.int64),
            ),
        }[self.door]
        return getattr(doors, self.door)(value, [(5, 6)], *inputs)


@pytest.mark.parametrize(
    ('door', 'rows'), [('ms_deform_attn', 14), ('ms_deform_attn_fused', 14), ('ms_deform_attn_packed', 5)]
)
def test_deformable_attention_and_that_the_real_one_comes_back(door: str, rows: int) -> None:
    real, real_convolution = getattr(doors, door), modulated_deform_conv.modulated_deform_conv2d
    model, value = Attention(door), torch.zeros(2, 30, 4, 8)
    counter = OpCounter(model)
    with counter.counting():
        out = model(value)
    assert out.shape == model(value).shape
    assert counter.macs['other'] == {'deformable attention': SAMPLING_MACS * 8 * rows * 4 * 3}
    assert getattr(doors, door) is real
    assert modulated_deform_conv.modulated_deform_conv2d is real_convolution


def test_what_is_computed_with_weights_is_skipped_and_the_rest_is_done() -> None:
    linear = nn.Linear(3, 3)
    with torch.no_grad():
        linear.weight.fill_(1)
    counter = OpCounter(linear)
    with counter.counting():
        hollow = linear(torch.ones(2, 3)) @ torch.ones(3, 4)
        hollow.relu_()
        done = torch.ones(2, 3) @ torch.ones(3, 2)
        both = hollow[:, :2] + done
        assert counter._is_hollow(hollow)
        assert counter._is_hollow(both)
        assert not counter._is_hollow(done)
    assert (hollow.shape, both.shape) == ((2, 4), (2, 2))
    assert (done == 3).all()
    assert counter.macs['other'] == {'addmm': 18, 'mm': 24 + 12}


def test_nothing_is_remembered_of_tensors_that_are_gone() -> None:
    linear = nn.Linear(3, 3)
    counter = OpCounter(linear)
    before = len(counter._hollow), counter.memory.now
    with counter.counting():
        linear(linear(torch.ones(2, 3)))
    assert (len(counter._hollow), counter.memory.now) == before


def test_innermost_part_takes_the_account() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 3)), nn.Linear(3, 1))
    counter = OpCounter(model)
    ends = [counter.watch('whole', model), counter.watch('middle', model[1])]
    with counter.counting():
        model(torch.zeros(1, 2))
    for end in ends:
        end()
    assert counter.macs['whole'].total() == 4 + 3
    assert counter.macs['middle'].total() == 6
    assert counter.part == 'other'
    assert not model._forward_hooks


def test_live_bytes_follow_the_tensors() -> None:
    memory = LiveBytes()
    first = torch.zeros(100)
    memory.see(first)
    memory.see(first.view(10, 10))
    assert memory.now == 400
    second = torch.zeros(50, device='meta')
    memory.see(second)
    del first
    assert (memory.now, memory.peak) == (200, 600)


def test_peak_is_weights_and_what_lives_together() -> None:
    # two 1000-float activations live together, the input's does not count as it was there before
    model = nn.Sequential(nn.Linear(10, 1000, bias=False), nn.Tanh(), nn.Tanh())
    counter = count(model, torch.zeros(1, 10))
    assert counter.memory.peak == 4 * (10 * 1000 + 2 * 1000)

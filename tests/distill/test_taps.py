"""Taps record one forward pass and nothing else."""

import re
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.taps import (
    Call,
    Recorder,
    Tap,
    expand_braces,
    find_module,
    map_tensors,
    tensors_of,
)


class Net(nn.Module):
    """Two convolutions, one of them edited in place afterwards when asked."""

    def __init__(self, in_place: bool = False, calls: int = 1) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1)
        self.act = nn.ReLU(inplace=in_place)
        self.idle = nn.Linear(2, 2)
        self.calls = calls

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) -> (N, 5, H, W)."""
        for _ in range(self.calls):
            out = self.second(self.act(self.first(x)))
        return out


class Pair(nn.Module):
    """Something with a module of two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = nn.Bilinear(2, 3, 4)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """(N, 2), (N, 3) -> (N, 4)."""
        return self.pair(left, right)


IMAGE = torch.randn(2, 3, 4, 4)


@pytest.mark.parametrize(
    ('pattern', 'paths'),
    [
        ('a.b', ['a.b']),
        ('c.{0..3}.d', ['c.0.d', 'c.1.d', 'c.2.d', 'c.3.d']),
        ('{x,y}.{1..2}', ['x.1', 'x.2', 'y.1', 'y.2']),
        ('c.{2..2}', ['c.2']),
    ],
)
def test_braces_expand(pattern: str, paths: list[str]) -> None:
    assert expand_braces(pattern) == paths


@pytest.mark.parametrize('pattern', ['c.{}', 'c.{3..1}', 'c.{a,}'])
def test_empty_braces_are_an_error(pattern: str) -> None:
    with pytest.raises(DistillError, match='is empty'):
        expand_braces(pattern)


def test_wrong_path_names_the_nearest() -> None:
    with pytest.raises(DistillError, match="Net has no module 'secnd' among its 4; did you mean 'second'"):
        find_module(Net(), 'secnd')


@pytest.mark.parametrize('path', ['layers.40', 'neck'])
def test_wrong_path_in_a_large_model_names_five_and_says_how_many_there_are(path: str) -> None:
    model = nn.Sequential()
    model.add_module('layers', nn.Sequential(*(nn.Identity() for _ in range(40))))
    with pytest.raises(DistillError, match=f"no module '{path}' among its 41; did you mean") as caught:
        find_module(model, path)
    named = re.findall(r"'(layers[.\d]*)'", str(caught.value).partition(';')[2])
    assert len(set(named)) == 5


def test_wrong_path_in_a_model_without_modules() -> None:
    with pytest.raises(DistillError, match="Identity has no module 'neck' among its 0; known: none"):
        find_module(nn.Identity(), 'neck')


def test_output_and_input_are_recorded_with_their_graph() -> None:
    net = Net()
    with Recorder(net, [Tap('first'), Tap('second:input')]) as recorder:
        net(IMAGE)
    record = recorder.pop()
    assert record['first'].shape == (2, 4, 4, 4)
    assert torch.equal(record['second:input'], record['first'].relu())
    record['second:input'].sum().backward()
    assert net.first.weight.grad is not None


def test_hooks_are_gone_after_the_block_and_records_after_pop() -> None:
    net = Net()
    with Recorder(net, [Tap('first')]) as recorder:
        assert len(net.first._forward_hooks) == 1
        net(IMAGE)
    assert len(net.first._forward_hooks) == 0
    assert set(recorder.pop()) == {'first'}
    assert recorder.pop() == {}


def test_hooks_are_gone_after_an_error_too() -> None:
    net = Net()
    recorder = Recorder(net, [Tap('first')])
    with pytest.raises(RuntimeError, match='expected input'), recorder:
        net(torch.zeros(2, 7, 4, 4))
    assert len(net.first._forward_hooks) == 0
    assert recorder.pop() == {}


def test_silent_tap_is_an_error() -> None:
    net = Net()
    with Recorder(net, [Tap('idle')]) as recorder:
        net(IMAGE)
    with pytest.raises(DistillError, match="'idle' of Net never fired"):
        recorder.pop()


def test_tap_that_fires_twice_is_an_error() -> None:
    net = Net(calls=2)
    with Recorder(net, [Tap('first')]) as recorder:
        net(IMAGE)
    with pytest.raises(DistillError, match="'first' of Net fired 2 times"):
        recorder.pop()


def test_edit_in_place_is_an_error_unless_cloned() -> None:
    net = Net(in_place=True)
    with Recorder(net, [Tap('first')]) as recorder:
        net(IMAGE)
    with pytest.raises(DistillError, match=r"'first' of Net was edited in place.*clone=True"):
        recorder.pop()
    with Recorder(net, [Tap('first', clone=True)]) as recorder:
        net(IMAGE)
    assert torch.equal(recorder.pop()['first'], net.first(IMAGE))


def test_a_term_that_clones_wins_over_one_that_does_not() -> None:
    net = Net(in_place=True)
    with Recorder(net, [Tap('first', clone=True), Tap('first')]) as recorder:
        net(IMAGE)
    assert torch.equal(recorder.pop()['first'], net.first(IMAGE))


def test_keyword_only_call_cannot_give_its_input() -> None:
    net = nn.Sequential(nn.ReLU())
    with (
        pytest.raises(DistillError, match='called with keyword arguments only'),
        Recorder(net, [Tap('0:input')]),
    ):
        net[0](input=IMAGE)


def test_nested_outputs_are_kept_as_they_are() -> None:
    rnn = nn.Sequential(nn.LSTM(3, 4))
    with Recorder(rnn, [Tap('0')]) as recorder:
        out, (hidden, _) = rnn(torch.randn(5, 2, 3))
    recorded, (also_hidden, _) = recorder.pop()['0']
    assert recorded is out
    assert also_hidden is hidden


def test_dataclasses_are_nested_values_too() -> None:
    """What adapters hand to terms: tensors with names."""

    @dataclass(frozen=True)
    class Named:
        left: torch.Tensor
        right: list[torch.Tensor]
        name: tuple[str, int]

    value = Named(torch.zeros(2), [torch.ones(3)], ('x', 1))
    assert [tensor.numel() for tensor in tensors_of(value)] == [2, 3]
    doubled = map_tensors(lambda tensor: tensor * 2, value)
    assert (doubled.right[0].tolist(), doubled.name) == ([2.0] * 3, ('x', 1))


@pytest.mark.parametrize('clone', [False, True])
def test_a_whole_call_is_recorded(clone: bool) -> None:
    left, right = torch.rand(5, 2), torch.rand(5, 3)
    host = Pair()
    with Recorder(host, [Tap('pair:call', clone=clone)]) as recorder:
        out = host(left, right)
    call = recorder.pop()['pair:call']
    assert isinstance(call, Call)
    assert torch.equal(call.output, out)
    assert [torch.equal(*both) for both in zip(call.args, (left, right), strict=True)] == [True, True]
    assert (call.output is out) != clone

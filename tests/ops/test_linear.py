"""Linear layers through oneDNN against plain torch in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from projects.mmdet3d_plugin.ops import library
from projects.mmdet3d_plugin.ops import linear as module
from projects.mmdet3d_plugin.ops.linear import Linear, linear

needs_onednn = pytest.mark.skipif(
    not library.serves(torch.empty(0), 'linear'),
    reason='torch is built without oneDNN, or no compiler is there',
)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """Shapes that went to oneDNN; every size may."""
    seen, product = [], module._product

    def spy(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        seen.append(x.shape)
        return product(x, weight, bias)

    monkeypatch.setattr(module, '_product', spy)
    monkeypatch.setattr(module, 'LEAST_WORK', 1)
    return seen


def inputs(shape: tuple[int, ...], out: int, bias: bool = True) -> tuple[Tensor, Tensor, Tensor | None]:
    torch.manual_seed(0)
    return torch.randn(shape), torch.randn(out, shape[-1]), torch.randn(out) if bias else None


@needs_onednn
@pytest.mark.parametrize('shape', [(7, 5), (2, 300, 64), (2, 3, 50, 20), (1, 1), (33,)])
@pytest.mark.parametrize('bias', [True, False])
def test_equals_float64(shape: tuple[int, ...], bias: bool, calls: list) -> None:
    leaves = [t.requires_grad_() for t in inputs(shape, 17, bias) if t is not None]
    wide = [t.detach().double().requires_grad_() for t in leaves]
    out, expected = linear(*leaves), F.linear(*wide)
    assert calls
    slope = torch.randn_like(out)
    grads = torch.autograd.grad(out, leaves, slope)
    for got, want in zip(
        (out, *grads), (expected, *torch.autograd.grad(expected, wide, slope.double())), strict=True
    ):
        assert got.shape == want.shape
        assert (got - want).norm() <= 1e-5 * want.norm()


@needs_onednn
def test_without_gradients_and_with_transposed_inputs(calls: list) -> None:
    x, weight, bias = inputs((40, 30), 30)
    columns = weight.t()
    expected = F.linear(x.t().double(), columns[:, :1].expand(-1, 40).double(), bias.double())
    with torch.inference_mode():
        out = linear(x.t(), columns[:, :1].expand(-1, 40), bias)
    assert calls
    assert (out - expected).norm() <= 1e-5 * expected.norm()


@needs_onednn
def test_second_derivative(calls: list) -> None:
    x, weight, _ = (t if t is None else t.requires_grad_() for t in inputs((6, 4), 3, bias=False))
    wide = [t.detach().double().requires_grad_() for t in (x, weight)]
    results = []
    for function, (a, b) in ((linear, (x, weight)), (F.linear, wide)):
        (slope,) = torch.autograd.grad(function(a, b).pow(3).sum(), a, create_graph=True)
        results.append(torch.autograd.grad(slope.square().sum(), b)[0])
    assert (results[0] - results[1]).norm() <= 1e-5 * results[1].norm()


@needs_onednn
@pytest.mark.parametrize('shape', [(40, 8), (2, 20, 8)])
def test_its_result_may_be_changed_in_place(shape: tuple[int, ...], calls: list) -> None:
    x, weight, bias = inputs(shape, 5)
    x.requires_grad_()
    (slope,) = torch.autograd.grad(F.relu(linear(x, weight, bias), inplace=True).sum(), x)
    (expected,) = torch.autograd.grad(F.relu(F.linear(x, weight, bias)).sum(), x)
    torch.testing.assert_close(slope, expected)


@needs_onednn
def test_batch_of_two_equals_two_of_one(calls: list) -> None:
    x, weight, bias = inputs((2, 50, 32), 16)
    single = torch.stack([linear(part, weight, bias) for part in x])
    torch.testing.assert_close(linear(x, weight, bias), single)


@needs_onednn
def test_only_what_trains_gets_a_gradient(calls: list) -> None:
    x, weight, bias = inputs((5, 4), 3)
    linear(x, weight, bias.requires_grad_()).sum().backward()
    assert bias.grad.tolist() == [5.0, 5.0, 5.0]
    assert x.grad is None
    assert weight.grad is None


def test_what_is_left_to_torch(calls: list) -> None:
    x, weight, bias = inputs((5, 4), 3)
    assert linear(x.double(), weight.double(), bias.double()).dtype == torch.float64
    assert linear(x[:0], weight, bias).shape == (0, 3)
    with torch.autocast('cpu', torch.bfloat16):
        assert linear(x, weight, bias).dtype == torch.bfloat16
    with library.pure_torch():
        assert torch.equal(linear(x, weight, bias), F.linear(x, weight, bias))
    assert not calls


def test_small_products_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, '_product', None)
    x, weight, bias = inputs((5, 4), 3)
    assert torch.equal(linear(x, weight, bias), F.linear(x, weight, bias))


@needs_onednn
def test_traces_in_one_graph(calls: list) -> None:
    x, weight, bias = inputs((9, 8), 4)
    compiled = torch.compile(lambda x: linear(x, weight, bias).relu(), fullgraph=True, backend='aot_eager')
    torch.testing.assert_close(compiled(x), F.linear(x, weight, bias).relu())


def test_layer_has_the_weights_of_torch() -> None:
    layer, peer = Linear(6, 3), torch.nn.Linear(6, 3)
    layer.load_state_dict(peer.state_dict())
    x = torch.randn(2, 6)
    assert torch.equal(layer(x), peer(x))

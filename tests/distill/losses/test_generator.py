"""Generating some cells gives what generating the whole map gives there."""

import pytest
import torch

from projects.mmdet3d_plugin.distill.losses.masked_generation import Generator


def some_cells(share: float, seed: int = 0) -> torch.Tensor:
    """(2, 7, 9) bool with cells on all borders."""
    mask = torch.rand(2, 7, 9, generator=torch.Generator().manual_seed(seed)) < share
    mask[0, 0, 0] = mask[1, 6, 8] = mask[0, 3, 8] = True
    return mask


@pytest.mark.parametrize('residual', [False, True])
@pytest.mark.parametrize('share', [0.0, 0.1, 0.5, 1.0])
def test_equals_the_whole_map_and_so_do_its_gradients(share: float, residual: bool) -> None:
    torch.manual_seed(0)
    generator, mask = Generator(5, residual).double(), some_cells(share)
    torch.nn.init.normal_(generator[2].weight)
    feature = torch.randn(2, 5, 7, 9, dtype=torch.float64, requires_grad=True)
    inputs = (feature, *generator.parameters())
    some, whole = generator.inside(feature, mask), generator(feature).permute(0, 2, 3, 1)[mask]
    torch.testing.assert_close(some, whole)
    direction = torch.randn_like(some)
    for a, b in zip(
        torch.autograd.grad(some, inputs, direction),
        torch.autograd.grad(whole, inputs, direction),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_gradcheck() -> None:
    torch.manual_seed(1)
    generator, mask = Generator(2).double(), some_cells(0.1)[:1]
    feature = torch.randn(1, 2, 7, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: generator.inside(f, mask), feature)


def test_no_cells_give_no_rows_with_a_live_graph() -> None:
    generator, feature = Generator(3), torch.randn(1, 3, 4, 5, requires_grad=True)
    rows = generator.inside(feature, torch.zeros(1, 4, 5, dtype=torch.bool))
    rows.sum().backward()
    assert rows.shape == (0, 3)
    assert feature.grad is not None
    assert not feature.grad.any()


def test_a_residual_generator_starts_with_adding_nothing_and_learns() -> None:
    torch.manual_seed(2)
    generator, feature = Generator(3, residual=True), torch.randn(1, 3, 4, 5)
    result = generator(feature)
    assert torch.equal(result, feature)
    (result - torch.randn(1, 3, 4, 5)).square().sum().backward()
    assert generator[2].weight.grad.any()


def test_its_names_are_those_of_a_plain_stack() -> None:
    assert set(Generator(3).state_dict()) == {'0.weight', '0.bias', '2.weight', '2.bias'}

"""Decoupled distillation against its formulas, in float64."""

import pytest
import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.losses.decoupled import (
    FORMS,
    bernoulli_divergence,
    check_form,
    sigmoid_decoupled,
    softmax_decoupled,
)


def logits(seed: int, classes: int = 4, rows: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)


TARGET = torch.tensor([0, 3, 1, 1, 2, 0])


@pytest.mark.parametrize('temperature', [1.0, 2.0, 0.5])
def test_softmax_form_splits_the_divergence(temperature: float) -> None:
    """KL = TCKD + (1 - q_t) * NCKD, from probabilities written out."""
    student, teacher = logits(0), logits(1)
    p, q = ((z / temperature).softmax(1) for z in (student, teacher))
    kl = (q * (q / p).log()).sum(1)
    q_t = q.gather(1, TARGET[:, None])[:, 0]
    tckd = softmax_decoupled(student, teacher, TARGET, temperature, 1.0, 0.0) / temperature**2
    nckd = softmax_decoupled(student, teacher, TARGET, temperature, 0.0, 1.0) / temperature**2
    assert torch.allclose(tckd + (1 - q_t) * nckd, kl, rtol=0, atol=1e-12)
    both = softmax_decoupled(student, teacher, TARGET, temperature, 0.7, 2.0)
    assert torch.allclose(both, temperature**2 * (0.7 * tckd + 2 * nckd), rtol=1e-12)


@pytest.mark.parametrize('temperature', [1.0, 2.0, 4.0])
def test_sigmoid_form_is_the_formulas_and_its_gradient(temperature: float) -> None:
    student, teacher = logits(0).requires_grad_(), logits(1)
    p, q = ((z / temperature).sigmoid() for z in (student, teacher))
    kl = q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()
    hot = torch.nn.functional.one_hot(TARGET, 4).to(kl)
    wanted = temperature**2 * ((kl * hot).sum(1) + 0.5 * (kl * (1 - hot)).sum(1) / 3)
    found = sigmoid_decoupled(student, teacher, TARGET, temperature, 1.0, 0.5)
    assert torch.allclose(found, wanted, rtol=0, atol=1e-12)
    (gradient,) = torch.autograd.grad(found.sum(), student)
    weights = hot + 0.5 * (1 - hot) / 3
    assert torch.allclose(gradient, weights * temperature * (p - q), rtol=0, atol=1e-12)


@pytest.mark.parametrize('form', FORMS)
def test_temperature_acts(form: str) -> None:
    """Another temperature is another loss, and at any of them the loss is least where student and teacher agree."""
    student, teacher = logits(0), logits(1)
    values = {t: FORMS[form](student, teacher, TARGET, t, 1.0, 1.0).sum().item() for t in (1.0, 2.0, 4.0)}
    assert len({round(value, 3) for value in values.values()}) == 3
    for temperature in values:
        same = teacher.clone().requires_grad_()
        loss = FORMS[form](same, teacher, TARGET, temperature, 1.0, 1.0)
        (gradient,) = torch.autograd.grad(loss.sum(), same)
        assert loss.abs().max() < 1e-12
        assert gradient.abs().max() < 1e-12


@pytest.mark.parametrize('form', FORMS)
def test_gradcheck(form: str) -> None:
    student, teacher = logits(2, rows=3).requires_grad_(), logits(3, rows=3)
    torch.autograd.gradcheck(lambda z: FORMS[form](z, teacher, TARGET[:3], 2.0, 1.0, 0.25), [student])


@pytest.mark.parametrize('form', FORMS)
def test_edges(form: str) -> None:
    """Saturated logits stay finite in float32, and one class has no others."""
    student = torch.tensor([[50.0, -50.0], [-50.0, 50.0]], requires_grad=True)
    loss = FORMS[form](student, -student.detach(), torch.tensor([0, 0]), 1.0, 1.0, 1.0)
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    assert loss.isfinite().all()
    assert gradient.isfinite().all()
    assert loss.min() > 40
    one = torch.tensor([[0.3]], requires_grad=True)
    single = FORMS[form](one, torch.tensor([[1.0]]), torch.tensor([0]), 1.0, 1.0, 7.0)
    expected = bernoulli_divergence(one, torch.tensor([[1.0]]))[:, 0] if form == 'sigmoid' else one[:, 0] * 0
    assert torch.equal(single, expected)
    none = FORMS[form](student[:0], student[:0].detach(), TARGET[:0], 1.0, 1.0, 1.0)
    assert none.shape == (0,)
    assert none.requires_grad


def test_divergence_is_never_negative() -> None:
    student, teacher = logits(4, rows=50), logits(5, rows=50)
    divergence = bernoulli_divergence(student, teacher)
    assert divergence.min() > 0
    assert bernoulli_divergence(teacher, teacher).abs().max() == 0


def test_mistakes_are_clear() -> None:
    with pytest.raises(ValueError, match='form must be one of'):
        check_form('tanh', 1.0)
    with pytest.raises(ValueError, match='temperature must be positive'):
        check_form('softmax', 0.0)

"""Decoupled knowledge distillation (Zhao et al., CVPR 2022): the target class and the other classes apart.

Both forms return ``T^2 * (alpha * TCKD + beta * NCKD)`` row by row: TCKD compares how sure teacher and student are of
the target class, NCKD how they spread the rest. Teacher and student are divided by the same temperature T, so that T
changes how much each row counts and never where the loss is least.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Form = Callable[..., Tensor]


def softmax_decoupled(
    student: Tensor, teacher: Tensor, target: Tensor, temperature: float, alpha: float, beta: float
) -> Tensor:
    """The published form, for one choice among C classes.

    With ``q = softmax(teacher / T)`` and y the target: TCKD is the divergence between the pairs (q_y, 1 - q_y), NCKD
    that between the softmax over the other classes; ``KL = TCKD + (1 - q_y) * NCKD``.

    Args:
        student: (M, C) logits.
        teacher: (M, C) logits.
        target: (M,) class indices.
        temperature: T.
        alpha: weight of TCKD.
        beta: weight of NCKD.

    Returns:
        (M,); 0 with a live graph where C is 1.
    """
    if student.shape[1] == 1:
        return student[:, 0] * 0
    pairs, others = zip(*(_parts(z / temperature, target) for z in (student, teacher)), strict=True)
    (p, q), (p_rest, q_rest) = pairs, others
    tckd, nckd = ((b.exp() * (b - a)).sum(1) for a, b in ((p, q), (p_rest, q_rest)))
    return temperature**2 * (alpha * tckd + beta * nckd)


def _parts(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Log probabilities of target and rest (M, 2), and of the classes within the rest (M, C - 1)."""
    classes = torch.arange(logits.shape[1], device=logits.device)
    rest = logits[classes != target[:, None]].view(len(logits), logits.shape[1] - 1)
    whole = rest.logsumexp(1)
    pair = torch.stack([logits.gather(1, target[:, None])[:, 0], whole], 1)
    return pair.log_softmax(1), rest - whole[:, None]


def sigmoid_decoupled(
    student: Tensor, teacher: Tensor, target: Tensor, temperature: float, alpha: float, beta: float
) -> Tensor:
    """The form for heads with one yes or no per class, as anchor and centre heads are.

    TCKD is the divergence between the two probabilities of the target class, NCKD the mean over the other classes. The
    gradient on a logit z is ``weight * T * (sigmoid(z / T) - sigmoid(teacher / T))``.

    Args:
        student: (M, C) logits.
        teacher: (M, C) logits.
        target: (M,) class indices.
        temperature: T.
        alpha: weight of TCKD.
        beta: weight of NCKD.

    Returns:
        (M,), at least 0, and 0 where both agree. NCKD is 0 where C is 1.
    """
    divergence = bernoulli_divergence(student / temperature, teacher / temperature)
    hot = F.one_hot(target, student.shape[1]).to(divergence)
    weights = alpha * hot + beta * (1 - hot) / max(student.shape[1] - 1, 1)
    return temperature**2 * (weights * divergence).sum(1)


def bernoulli_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL divergence of the student's yes or no from the teacher's, both logits of one shape; finite for any logits."""
    yes = teacher.sigmoid() * (F.logsigmoid(teacher) - F.logsigmoid(student))
    no = (-teacher).sigmoid() * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
    return yes + no


FORMS: dict[str, Form] = {'sigmoid': sigmoid_decoupled, 'softmax': softmax_decoupled}


def check_form(form: str, temperature: float) -> Form:
    """The function of a form's name.

    Raises:
        ValueError: there is no such form, or the temperature is not positive.
    """
    if form not in FORMS:
        raise ValueError(f'form must be one of {tuple(FORMS)}, got {form!r}')
    if temperature <= 0:
        raise ValueError(f'temperature must be positive, got {temperature}')
    return FORMS[form]

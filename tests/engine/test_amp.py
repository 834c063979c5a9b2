"""Mixed precision."""

import pytest
import torch
from torch import nn

from projects.mmdet3d_plugin.engine.amp import Precision


@pytest.mark.parametrize(
    ('name', 'dtype'), [('bf16', torch.bfloat16), ('fp16', torch.float16), (None, torch.float32)]
)
def test_forward_passes_compute_in_the_chosen_type(name: str | None, dtype: torch.dtype) -> None:
    with Precision(name, 'cpu').autocast():
        assert nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == dtype


@pytest.mark.parametrize('name', ['bf16', 'fp16'])
def test_weights_get_gradients_although_they_were_used_without_before(name: str) -> None:
    # A temporal host runs its history without gradients first; autocast must not hand those copies on.
    layer, x = nn.Linear(2, 2), torch.ones(1, 2)
    with Precision(name, 'cpu').autocast():
        with torch.no_grad():
            layer(x)
        layer(x).float().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.abs().sum() > 0


def test_only_fp16_scales_gradients() -> None:
    assert Precision('fp16', 'cpu').scaler is not None
    assert Precision('bf16', 'cpu').scaler is None
    assert Precision(None, 'cpu').state_dict() is None


def test_the_scale_is_restored_and_another_precision_left_alone() -> None:
    saved = Precision('fp16', 'cpu')
    saved.scaler.scale(torch.ones(1))  # only now it has a scale
    saved.scaler.update(2.0)
    other = Precision('fp16', 'cpu')
    other.load_state_dict(saved.state_dict())
    assert other.state_dict()['scale'] == saved.state_dict()['scale'] == 2.0
    Precision('bf16', 'cpu').load_state_dict(saved.state_dict())


def test_an_unknown_precision_is_an_error() -> None:
    with pytest.raises(ValueError, match='"fp8" is unknown: choose from bf16, fp16'):
        Precision('fp8')

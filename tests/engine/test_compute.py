"""Other precision and layout in named parts of a model."""

import copy

import pytest
import torch
from torch import nn

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.engine import compute
from projects.mmdet3d_plugin.engine.compute import speed_up
from tests.factories import frame_batch, pint_bevformer

PARTS = ['img_backbone', 'img_neck']


def _step(model: nn.Module) -> tuple[float, torch.Tensor]:
    """Loss and all gradients of a training step."""
    torch.manual_seed(0)
    losses = model.train().forward_train(**frame_batch([0, 1], queue=2))
    loss = sum(losses.values())
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize(('dtype', 'near', 'alike'), [(None, 1e-4, 0.99999), ('bf16', 2e-2, 0.98)])
def test_a_step_is_the_same_within_rounding(
    dtype: str | None, near: float, alike: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, '_has_bf16', lambda _: True)
    plain = pint_bevformer()
    plain.grid_mask = None
    fast = copy.deepcopy(plain)
    speed_up([fast], PARTS, dtype, channels_last=True)
    (loss, grad), (other_loss, other_grad) = _step(plain), _step(fast)
    assert other_loss == pytest.approx(loss, rel=near)
    assert torch.cosine_similarity(grad, other_grad, dim=0) > alike
    for key, value in fast.state_dict().items():
        assert value.dtype == plain.state_dict()[key].dtype
        assert value.is_contiguous()


def test_only_the_named_parts_compute_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, '_has_bf16', lambda _: True)
    seen = {}
    model = nn.ModuleDict({'student': nn.ModuleDict({'a': nn.Conv2d(3, 4, 1), 'b': nn.Conv2d(4, 4, 1)})})
    speed_up([model], ['a'], 'bf16', channels_last=True)
    part = model['student']['a']
    inner = part.forward
    part.register_forward_hook(lambda _, __, out: seen.update(out=out))
    assert inner is part.forward
    out = part(torch.zeros(2, 3, 5, 6))
    assert out.dtype == torch.float32
    assert seen['out'].is_contiguous(memory_format=torch.channels_last)
    assert model['student']['b'](out).dtype == torch.float32


def test_a_processor_without_bf16_stays_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, '_has_bf16', lambda _: False)
    conv = nn.Conv2d(3, 4, 3)
    fast = nn.ModuleDict({'img_backbone': copy.deepcopy(conv)})
    speed_up([fast], ['img_backbone'], 'bf16')
    x = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(fast['img_backbone'](x), conv(x), rtol=0, atol=0)


@pytest.mark.parametrize(
    ('modules', 'dtype', 'words'),
    [
        (['img_backbon'], None, "'img_backbon', which no model has: it has grid_mask, img_backbone"),
        (['img_neck'], 'fp16', "compute.dtype='fp16': say 'bf16'"),
    ],
)
def test_a_wrong_wish_is_one_clear_line(modules: list[str], dtype: str | None, words: str) -> None:
    with pytest.raises(UserError, match=words):
        speed_up([pint_bevformer()], modules, dtype)


def test_fused_adamw_takes_the_same_steps() -> None:
    weights = []
    for fused in (False, True):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 2))
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=0.1, fused=fused)
        for _ in range(5):
            optimizer.zero_grad()
            net(torch.randn(4, 3, 8, 8)).square().mean().backward()
            optimizer.step()
        weights.append(torch.cat([p.flatten() for p in net.parameters()]))
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)

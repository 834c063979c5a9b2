"""A frozen backbone: what it remembers, and when it must not."""

from pathlib import Path

import pytest
import torch
from mmdet.models import BACKBONES

from projects.mmdet3d_plugin.hosts.backbones.frozen_backbone import FrozenBackbone

RESNET = dict(
    type='ResNet',
    depth=18,
    num_stages=2,
    strides=(1, 2),
    dilations=(1, 1),
    base_channels=8,
    out_indices=(0, 1),
)


def _build(cache: Path | None = None, seed: int = 0) -> FrozenBackbone:
    torch.manual_seed(seed)
    return BACKBONES.build(dict(type='FrozenBackbone', backbone=RESNET, cache_dir=cache and str(cache)))


def test_nothing_of_it_moves_in_training() -> None:
    frozen = _build().train()
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    maps = frozen(torch.randn(2, 3, 16, 32))
    assert [tuple(level.shape[1:]) for level in maps] == [(8, 4, 8), (16, 2, 4)]
    assert not any(level.requires_grad for level in maps)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    for name, value in frozen.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_an_image_is_looked_at_once_in_whatever_company(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, plain, cached = torch.randn(3, 3, 16, 32), _build(), _build(tmp_path / 'features')
    expected = plain(images)
    first = cached(images[:2])
    seen: list[int] = []
    whole = cached.backbone.forward
    monkeypatch.setattr(cached.backbone, 'forward', lambda x: seen.append(len(x)) or whole(x))
    second = cached(images[[2, 1, 0]])
    assert seen == [1]
    for level, (a, b, c) in enumerate(zip(first, second, expected, strict=True)):
        torch.testing.assert_close(b[[2, 1]], a, rtol=0, atol=0), level
        torch.testing.assert_close(b[[2, 1, 0]], c, rtol=2e-3, atol=2e-3)  # half precision


@pytest.mark.parametrize('left', [0, 100])
def test_maps_that_a_crash_cut_off_are_made_again(tmp_path: Path, left: int) -> None:
    image, cached = torch.randn(1, 3, 16, 32), _build(tmp_path)
    first = cached(image)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:left])
    for _ in range(2):
        for again, expected in zip(cached(image), first, strict=True):
            assert torch.equal(again, expected)


def test_other_weights_say_something_else(tmp_path: Path) -> None:
    image, other = torch.randn(1, 3, 16, 32), _build(seed=1)
    cached = _build(tmp_path)
    cached(image)
    cached.load_state_dict(other.state_dict())
    torch.testing.assert_close(cached(image)[0], other(image)[0], rtol=2e-3, atol=2e-3)
    assert len(list(tmp_path.iterdir())) == 2


def test_other_maps_of_the_same_weights_are_kept_apart(tmp_path: Path) -> None:
    image = torch.randn(1, 3, 16, 32)
    both = _build(tmp_path)
    last = BACKBONES.build(
        dict(type='FrozenBackbone', backbone={**RESNET, 'out_indices': (1,)}, cache_dir=str(tmp_path))
    )
    last.load_state_dict(both.state_dict())
    assert [len(backbone(image)) for backbone in (both, last, both)] == [2, 1, 2]

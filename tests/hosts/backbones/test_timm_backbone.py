"""timm backbones: what works, and what says clearly why it does not."""

import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.hosts.backbones.timm_backbone import TimmBackbone


@pytest.mark.parametrize(('name', 'strides'), [('resnet10t', [16, 32]), ('convnext_atto', [16, 32])])
def test_maps_have_the_promised_shape(name: str, strides: list[int]) -> None:
    backbone = TimmBackbone(name, out_indices=(-2, -1))
    maps = backbone(torch.zeros(2, 3, 64, 96))
    shapes = [(2, c, 64 // s, 96 // s) for c, s in zip(backbone.feature_channels, strides, strict=True)]
    assert [tuple(m.shape) for m in maps] == shapes


def test_channels_last_models_are_turned() -> None:
    maps = TimmBackbone('swin_tiny_patch4_window7_224', out_indices=(2,), img_size=(64, 96))(
        torch.zeros(1, 3, 64, 96)
    )
    assert maps[0].shape == (1, 384, 4, 6)


def test_unknown_model_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r'convnext_tny.*did you mean .*convnext_tiny'):
        TimmBackbone('convnext_tny', out_indices=(3,))


@pytest.mark.parametrize(
    ('name', 'stages'), [('mixer_s16_224', (2, 3)), ('vit_tiny_patch16_224', (2, 3)), ('resnet18', (9,))]
)
def test_models_without_a_pyramid_are_refused(name: str, stages: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f'TimmBackbone: {name!r}'):
        TimmBackbone(name, out_indices=stages)


def test_pretrained_weights_are_fetched_only_by_init_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = TimmBackbone('resnet10t', out_indices=(3,), pretrained=True)

    def no_network(*_: object, **__: object) -> None:
        raise OSError('no network')

    monkeypatch.setattr('timm.create_model', no_network)
    with pytest.raises(RuntimeError, match="weights of 'resnet10t' cannot be had"):
        backbone.init_weights()


def _renamed(backbone: TimmBackbone, without_counters: bool = True) -> OrderedDict:
    """The weights as another project would save them: other names, a classifier at the end."""
    state = backbone.model.state_dict()
    kept = [value + 1 for name, value in state.items() if not (without_counters and 'num_batches' in name)]
    return OrderedDict(
        [(f'module.{i}', value) for i, value in enumerate(kept)] + [('fc.weight', torch.ones(7, 3))]
    )


def test_weights_of_a_file_or_of_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = TimmBackbone('resnet10t', out_indices=(2, 3))
    package = tmp_path / 'zoo_of_weights'
    package.mkdir()
    (package / '__init__.py').touch()
    torch.save(_renamed(source), package / 'net.pth')
    torch.save({'state_dict': source.model.state_dict()}, tmp_path / 'own.pth')
    monkeypatch.setattr(sys, 'path', [str(tmp_path), *sys.path])
    for weights, added in (
        (f'{package}/net.pth', 1),
        ('zoo_of_weights:net.pth', 1),
        (f'{tmp_path}/own.pth', 0),
    ):
        backbone = TimmBackbone('resnet10t', out_indices=(2, 3), weights=weights)
        before = backbone.model.state_dict()['layer1.0.conv1.weight'].clone()
        backbone.init_weights()
        for name, value in source.model.state_dict().items():
            if 'num_batches' not in name:
                torch.testing.assert_close(backbone.model.state_dict()[name], value + added, rtol=0, atol=0)
        assert not torch.equal(before, backbone.model.state_dict()['layer1.0.conv1.weight'])


def test_weights_that_do_not_fit_or_are_not_there_are_one_clear_line(tmp_path: Path) -> None:
    torch.save(_renamed(TimmBackbone('resnet10t', out_indices=(3,))), tmp_path / 'other.pth')
    (tmp_path / 'broken.pth').write_bytes(b'no weights')
    for weights, words in (
        (f'{tmp_path}/other.pth', 'is of another model: '),
        (f'{tmp_path}/broken.pth', 'is not a readable checkpoint: it is damaged'),
        (f'{tmp_path}/gone.pth', 'there is no file'),
        ('zoo_that_nobody_has:net.pth', 'which is not installed: pip install zoo-that-nobody-has'),
    ):
        with pytest.raises(UserError, match=words):
            TimmBackbone('convnext_atto', out_indices=(3,), weights=weights).init_weights()

"""timm backbones: what works, and what says clearly why it does not."""

import pytest
import torch

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

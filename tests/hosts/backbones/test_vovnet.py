"""VoVNet: sizes of its outputs, and what of it learns."""

import torch

from projects.mmdet3d_plugin.hosts.backbones.vovnet import VoVNet


def test_outputs_of_four_strides() -> None:
    with torch.device('meta'):
        outs = VoVNet()(torch.zeros(2, 3, 64, 96))
    assert [tuple(out.shape) for out in outs] == [
        (2, 256, 16, 24),
        (2, 512, 8, 12),
        (2, 768, 4, 6),
        (2, 1024, 2, 3),
    ]


def test_frozen_stages_and_norms_stay_as_they_are() -> None:
    with torch.device('meta'):
        model = VoVNet(out_indices=(3,), frozen_stages=1).train()
        assert len(model(torch.zeros(1, 3, 32, 32))) == 1
    learning = {name.split('.')[0] for name, p in model.named_parameters() if p.requires_grad}
    assert learning == {'stage3', 'stage4', 'stage5'}
    assert not any(m.training for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    assert model.stage3.training
    assert not model.stem.training

"""Detectors from configs."""

from projects.mmdet3d_plugin.common.models import without_pretrained
from projects.mmdet3d_plugin.hosts.backbones.timm_backbone import TimmBackbone


def test_without_pretrained_nothing_is_downloaded() -> None:
    assert TimmBackbone.PRETRAINED == ('pretrained', 'weights')
    model = dict(
        backbone=dict(depth=50, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50')),
        heads=[dict(init_cfg=dict(type='Normal', std=0.1)), dict(init_cfg=dict(type='Pretrained'))],
        image=dict(type='TimmBackbone', model_name='mobilenet', weights='a_package:a_file', pretrained=True),
    )
    stripped = without_pretrained(model)
    assert stripped == dict(
        backbone=dict(depth=50),
        heads=[dict(init_cfg=dict(type='Normal', std=0.1)), {}],
        image=dict(type='TimmBackbone', model_name='mobilenet'),
    )
    assert 'init_cfg' in model['backbone']

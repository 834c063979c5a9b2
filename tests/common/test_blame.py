"""Which part of a config a constructor's complaint belongs to."""

from pathlib import Path

import pytest
import torch
from mmdet.models.builder import BACKBONES, NECKS
from torch import nn

from projects.mmdet3d_plugin.common.blame import blamed_on
from projects.mmdet3d_plugin.common.errors import UserError, explain
from projects.mmdet3d_plugin.common.models import init_model

MODEL = dict(type='Outer', part=dict(type='Inner'))


@pytest.mark.parametrize(
    ('raised', 'said'),
    [
        (KeyError("Outer: 'x is not in the registry'"), 'model (Outer) cannot be built: x is not in the registry'),
        (ValueError('Outer: "Inner: \'x is bad\'"'), 'model.part (Inner) cannot be built: x is bad'),
        (ValueError("Outer: set a='b'"), "model (Outer) cannot be built: set a='b'"),
        (ValueError("Outer: 'a' is no 'b'"), "model (Outer) cannot be built: 'a' is no 'b'"),
        (TypeError("__init__() got 'c'"), "model (Outer) cannot be built: got 'c'"),
    ],
)  # fmt: skip
def test_the_innermost_part_is_named_and_quotes_stay_whole(raised: Exception, said: str) -> None:
    with pytest.raises(UserError) as caught, blamed_on('model', MODEL):
        raise raised
    assert str(caught.value) == said


def test_an_assertion_without_words_tells_its_condition() -> None:
    cfg = dict(type='ResNet', depth=18, num_stages=2, out_indices=(0, 3))
    words = r'backbone \(ResNet\) cannot be built: it needs len\(strides\) == len'
    with pytest.raises(UserError, match=words), blamed_on('backbone', cfg):
        BACKBONES.build(cfg)


def test_files_of_initial_weights_are_named(tmp_path: Path) -> None:
    cfg = dict(type='ResNet', init_cfg=dict(type='Pretrained', checkpoint=f'{tmp_path}/no.pth'))

    class Model(nn.Module):
        def init_weights(self) -> None:
            raise FileNotFoundError('no.pth can not be found.')

    with pytest.raises(UserError, match=r"look at model.init_cfg.checkpoint='.*no.pth'"):
        init_model(Model(), cfg)
    init_model(nn.Identity(), cfg)  # nothing to initialise


def test_a_neck_that_is_given_another_number_of_maps_is_named() -> None:
    neck = NECKS.build(dict(type='FPN', in_channels=[4, 4], out_channels=4, num_outs=2))
    with pytest.raises(AssertionError) as caught:
        nn.Sequential(neck)([torch.zeros(1, 4, 2, 2)])
    assert explain(caught.value) == (
        '0 (FPN) does not fit what it is given (assert len(inputs) == len(self.in_channels)): check its arguments in the '
        'config'
    )

"""Deformable convolutions of mmcv as standard operators: in torch and, where it is installed, by onnxruntime."""

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmcv.ops import DeformConv2dPack, ModulatedDeformConv2dPack, deform_conv, modulated_deform_conv
from torch import nn

from projects.mmdet3d_plugin.engine.deploy.export_onnx import OPSET
from projects.mmdet3d_plugin.engine.deploy.plain_deform_conv import plain_deform_convs

WHY = 'onnxruntime is an optional extra: requirements/onnx.txt'
SETTINGS = [
    dict(padding=1),
    dict(stride=2, padding=2, dilation=2, groups=2),
    dict(stride=2, padding=0, deform_groups=2),
    dict(padding=1, groups=4, deform_groups=4),
]
every_setting = pytest.mark.parametrize('settings', SETTINGS)
every_kind = pytest.mark.parametrize('kind', [DeformConv2dPack, ModulatedDeformConv2dPack])


def convolution(kind: type[nn.Module], settings: dict[str, Any]) -> nn.Module:
    """Random weights, and offsets of several pixels, of which many lead out of a small map."""
    torch.manual_seed(0)
    layer = kind(4, 8, 3, **settings)
    nn.init.normal_(layer.conv_offset.weight, std=0.5)
    return layer.eval()


def mmcv_functions() -> tuple[Callable, Callable]:
    """What the layers call at present."""
    return deform_conv.deform_conv2d, modulated_deform_conv.modulated_deform_conv2d


@every_kind
@every_setting
@torch.no_grad()
def test_the_layers_are_mmcvs_again_behind_the_context(kind: type[nn.Module], settings: dict) -> None:
    """In float64; what it puts in place of mmcv's functions does not stay when something fails either."""
    layer, x = convolution(kind, settings).double(), torch.randn(2, 4, 7, 9).double()
    functions, keys, expected = mmcv_functions(), list(layer.state_dict()), layer(x)
    with plain_deform_convs():
        assert not set(functions) & set(mmcv_functions())
        torch.testing.assert_close(layer(x), expected, atol=1e-9, rtol=0)
    with pytest.raises(RuntimeError, match='channels'), plain_deform_convs():
        layer(x[:, :3])
    assert mmcv_functions() == functions
    assert list(layer.state_dict()) == keys
    assert torch.equal(layer(x), expected)


@every_kind
@every_setting
@torch.no_grad()
@pytest.mark.filterwarnings('ignore')
def test_onnxruntime_samples_as_mmcv_does(kind: type[nn.Module], settings: dict) -> None:
    """Any number of maps, and no operator but the standard ones."""
    onnx = pytest.importorskip('onnx', reason=WHY)
    onnxruntime = pytest.importorskip('onnxruntime', reason=WHY)
    layer, file = convolution(kind, settings), io.BytesIO()
    with plain_deform_convs():
        torch.onnx.export(
            layer,
            (torch.randn(2, 4, 7, 9),),
            file,
            opset_version=OPSET,
            input_names=['x'],
            dynamic_axes={'x': {0: 'maps'}},
            dynamo=False,
        )
    assert {node.domain for node in onnx.load_from_string(file.getvalue()).graph.node} == {''}
    session = onnxruntime.InferenceSession(file.getvalue(), providers=['CPUExecutionProvider'])
    x = torch.randn(3, 4, 7, 9)
    (found,) = session.run(None, dict(x=x.numpy()))
    torch.testing.assert_close(torch.from_numpy(found), layer(x), atol=1e-5, rtol=0)

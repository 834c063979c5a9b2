"""Connectors give the teacher's shape, whatever the ratio."""

import pytest
import torch

from projects.mmdet3d_plugin.distill.connectors import Deconv, Identity, Resize, ResizeConv, build_connector
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.taps import Tap


def taps(student: tuple[int, int], teacher: tuple[int, int]) -> tuple[Tap, Tap]:
    return Tap('s', channels=4, size=student), Tap('t', channels=6, size=teacher)


@pytest.mark.parametrize('scale', [1, 2, 3, 4, 5, 6, 8])
def test_deconv_reaches_any_integer_scale(scale: int) -> None:
    connector = build_connector('deconv', *taps((5, 6), (5 * scale, 6 * scale)), 'there')
    assert isinstance(connector, Deconv)
    out = connector(torch.randn(2, 4, 5, 6), (5 * scale, 6 * scale))
    assert out.shape == (2, 6, 5 * scale, 6 * scale)


def test_resize_learns_nothing_and_gives_any_size() -> None:
    connector = build_connector('resize', *taps((5, 6), (9, 12)), 'there')
    assert isinstance(connector, Resize)
    assert not list(connector.parameters())
    assert connector(torch.ones(1, 4, 5, 6), (9, 12)).equal(torch.ones(1, 4, 9, 12))


def test_deconv_has_the_published_layers_at_2x_and_two_of_them_at_4x() -> None:
    kinds = [type(layer).__name__ for layer in Deconv(4, 6, 2).layers]
    assert kinds == ['ConvTranspose2d', 'BatchNorm2d', 'ReLU', 'Conv2d']
    first = Deconv(4, 6, 2).layers[0]
    assert (first.kernel_size, first.stride) == ((4, 4), (2, 2))
    assert sum(type(layer).__name__ == 'ConvTranspose2d' for layer in Deconv(4, 6, 4).layers) == 2


@pytest.mark.parametrize('teacher', [(9, 12), (12, 12), (10, 18)])
def test_deconv_between_other_ratios_becomes_resize_and_conv(teacher: tuple[int, int]) -> None:
    connector = build_connector('deconv', *taps((6, 6), teacher), 'there')
    assert isinstance(connector, ResizeConv) == (teacher != (12, 12))
    assert connector(torch.randn(1, 4, 6, 6), teacher).shape == (1, 6, *teacher)


def test_deconv_takes_an_explicit_scale_where_sizes_are_unknown() -> None:
    student, teacher = Tap('s', channels=4), Tap('t', channels=6)
    with pytest.raises(DistillError, match="there: the sizes of 's' are not known beforehand; give 'scale'"):
        build_connector('deconv', student, teacher, 'there')
    connector = build_connector(dict(type='Deconv', scale=3), student, teacher, 'there')
    assert connector(torch.randn(1, 4, 2, 2), (6, 6)).shape == (1, 6, 6, 6)


@pytest.mark.parametrize('scale', [0, 1.5])
def test_deconv_refuses_other_scales(scale: float) -> None:
    with pytest.raises(ValueError, match='integer scale'):
        Deconv(4, 6, scale)


def test_none_is_identity() -> None:
    connector, feature = build_connector(None, *taps((2, 2), (2, 2)), 'there'), torch.randn(1, 4, 2, 2)
    assert isinstance(connector, Identity)
    assert connector(feature, (2, 2)) is feature


@pytest.mark.parametrize('kind', ['conv1x1', 'resize_conv', 'deconv'])
def test_gradients_reach_the_student_and_the_connector(kind: str) -> None:
    connector = build_connector(kind, *taps((4, 4), (8, 8)), 'there')
    feature = torch.randn(2, 4, 4, 4, requires_grad=True)
    connector(feature, (8, 8)).square().sum().backward()
    assert feature.grad.any()
    assert all(
        p.grad is not None and p.grad.any() for n, p in connector.named_parameters() if 'bias' not in n
    )

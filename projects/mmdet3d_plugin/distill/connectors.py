"""Make a student's feature comparable with the teacher's: same channels, same size."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.registry import CONNECTORS, DistillError, build_part
from projects.mmdet3d_plugin.distill.taps import Tap

Size = tuple[int, int]


@CONNECTORS.register_module()
class Identity(nn.Module):
    """Compare the student's feature as it is."""

    def forward(self, feature: Tensor, size: Size) -> Tensor:
        """Return the feature, whatever ``size`` the teacher has.

        Args:
            feature: (N, C, H, W).
            size: not used.
        """
        return feature


@CONNECTORS.register_module()
class Resize(nn.Module):
    """Bilinear resize to the teacher's size and nothing learned: what the student itself sees must be alike.

    It suits a student that inherits the teacher's head, which reads the student's feature as it is.
    """

    def forward(self, feature: Tensor, size: Size) -> Tensor:
        """(N, C, h, w) -> (N, C, *size)."""
        return F.interpolate(feature, size=size, mode='bilinear', align_corners=False)


@CONNECTORS.register_module()
class Conv1x1(nn.Module):
    """Change the number of channels, cell by cell.

    Args:
        in_channels: the student's.
        out_channels: the teacher's.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, feature: Tensor, size: Size) -> Tensor:
        """(N, C_student, H, W) -> (N, C_teacher, H, W); ``size`` is not used."""
        return self.conv(feature)


@CONNECTORS.register_module()
class ResizeConv(nn.Module):
    """Bilinear resize to the teacher's size, then a convolution; works for any ratio.

    Args:
        in_channels: the student's.
        out_channels: the teacher's.
        kernel_size: of the convolution, odd.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f'kernel_size must be odd, so that the map keeps its size, got {kernel_size}')
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)

    def forward(self, feature: Tensor, size: Size) -> Tensor:
        """(N, C_student, h, w) -> (N, C_teacher, *size)."""
        return self.conv(F.interpolate(feature, size=size, mode='bilinear', align_corners=False))


@CONNECTORS.register_module()
class Deconv(nn.Module):
    """Learned up-sampling: transposed convolutions (with BN and ReLU), then a 3x3 convolution (the published form).

    Args:
        in_channels: the student's.
        out_channels: the teacher's.
        scale: teacher's size / student's size, an integer: one transposed convolution per prime factor.
    """

    def __init__(self, in_channels: int, out_channels: int, scale: int = 2) -> None:
        super().__init__()
        if scale != int(scale) or scale < 1:
            raise ValueError(f"a deconv needs an integer scale >= 1, got {scale}; use 'resize_conv'")
        layers: list[nn.Module] = []
        for factor in _prime_factors(int(scale)):
            # the size times the factor exactly; each output sees about two inputs
            kernel = 2 * factor - factor % 2
            layers += [
                nn.ConvTranspose2d(in_channels, in_channels, kernel, factor, factor // 2, bias=False),
                nn.BatchNorm2d(in_channels),
                nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(in_channels, out_channels, 3, padding=1))

    def forward(self, feature: Tensor, size: Size) -> Tensor:
        """(N, C_student, h, w) -> (N, C_teacher, h * scale, w * scale); ``size`` is not used."""
        return self.layers(feature)


def _prime_factors(number: int) -> list[int]:
    factors, divisor = [], 2
    while number > 1:
        while number % divisor == 0:
            factors.append(divisor)
            number //= divisor
        divisor += 1
    return factors


def build_connector(cfg: str | Mapping | None, student: Tap, teacher: Tap, where: str) -> nn.Module:
    """Build a term's connector; channels and scale come from the taps unless the config gives them.

    ``'deconv'`` between sizes whose ratio is not one integer becomes ``'resize_conv'``.

    Args:
        cfg: config, short form, or None for :class:`Identity`.
        student: where the feature comes from.
        teacher: what it must look like.
        where: the place in the recipe, for messages.
    """
    cfg = {'type': cfg or 'Identity'} if not isinstance(cfg, Mapping) else dict(cfg)
    context = {'in_channels': student.channels, 'out_channels': teacher.channels}
    context = {key: value for key, value in context.items() if value is not None}
    if str(cfg.get('type')).lower() == 'deconv' and 'scale' not in cfg:
        scale = _integer_scale(student, teacher, where)
        cfg['type' if scale is None else 'scale'] = 'ResizeConv' if scale is None else scale
    return build_part(CONNECTORS, cfg, where, **context)


def _integer_scale(student: Tap, teacher: Tap, where: str) -> int | None:
    """The one integer that turns the student's size into the teacher's, or None."""
    if student.size is None or teacher.size is None:
        raise DistillError(
            f"{where}: the sizes of {student.path!r} are not known beforehand; give 'scale', as in dict(type='Deconv', "
            "scale=2), or take 'resize_conv'"
        )
    (h, w), (height, width) = student.size, teacher.size
    exact = height % h == 0 and width % w == 0 and height // h == width // w
    return height // h if exact else None

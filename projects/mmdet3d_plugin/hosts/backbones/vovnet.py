"""VoVNet-V2 (CVPR 2020, "CenterMask"): what DETR3D's entry on the test server has for a backbone."""

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.runner import BaseModule
from mmdet.models import BACKBONES
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

STEM = ((64, 2), (64, 1), (128, 2))  # channels and stride
STAGES = ((128, 256, 1), (160, 512, 3), (192, 768, 9), (224, 1024, 3))
"""V2-99: channels of a block's convolutions, channels that it returns, and number of blocks."""
CONVOLUTIONS = 5  # per block


def _named(
    name: str, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1
) -> dict[str, nn.Module]:
    """A convolution with norm and ReLU, under the names of the published weights."""
    convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
    return {
        f'{name}/conv': convolution,
        f'{name}/norm': nn.BatchNorm2d(out_channels),
        f'{name}/relu': nn.ReLU(inplace=True),
    }


def _sequence(modules: dict[str, nn.Module]) -> nn.Sequential:
    """Modules one after the other; the names hold slashes, which only ``add_module`` takes."""
    sequence = nn.Sequential()
    for name, module in modules.items():
        sequence.add_module(name, module)
    return sequence


class EffectiveSqueezeExcitation(nn.Module):
    """Weigh channels by what the whole map shows, without reducing them in between (eSE)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        gate = self.fc(x.mean((2, 3), keepdim=True))
        return x * nn.functional.hardsigmoid(gate)


class OneShotAggregation(nn.Module):
    """Convolutions in a row, whose inputs and outputs are joined once (OSA).

    Args:
        name: of the block, which its weights bear.
        in_channels: of the input.
        channels: of the convolutions.
        out_channels: of the output.
        residual: add the input.
    """

    def __init__(self, name: str, in_channels: int, channels: int, out_channels: int, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        widths = [in_channels] + [channels] * CONVOLUTIONS
        self.layers = nn.ModuleList(
            _sequence(_named(f'{name}_{i}', widths[i], channels)) for i in range(CONVOLUTIONS)
        )
        self.concat = _sequence(_named(f'{name}_concat', sum(widths), out_channels, kernel=1))
        self.ese = EffectiveSqueezeExcitation(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, H, W)."""
        seen = [x]
        for layer in self.layers:
            seen.append(layer(seen[-1]))
        out = self.ese(self.concat(torch.cat(seen, dim=1)))
        return out + x if self.residual else out


@BACKBONES.register_module()
class VoVNet(BaseModule):
    """V2-99-eSE with outputs of stride 4, 8, 16 and 32.

    Args:
        out_indices: which of the four stages are returned.
        frozen_stages: the stem (0) and so many stages do not learn; -1 for none.
        norm_eval: keep the statistics of norms as they are, also in training.
        init_cfg: initialisation, see mmcv.
    """

    def __init__(
        self,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = True,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.out_indices, self.frozen_stages, self.norm_eval = tuple(out_indices), frozen_stages, norm_eval
        modules, channels = {}, 3
        for i, (width, stride) in enumerate(STEM, start=1):
            modules |= _named(f'stem_{i}', channels, width, stride=stride)
            channels = width
        self.stem = _sequence(modules)
        for number, (width, out, blocks) in enumerate(STAGES, start=2):
            stage = {} if number == 2 else {'pooling': nn.MaxPool2d(3, 2, ceil_mode=True)}
            for i in range(1, blocks + 1):
                name = f'OSA{number}_{i}'
                stage[name] = OneShotAggregation(name, channels, width, out, residual=i > 1)
                channels = out
            self.add_module(f'stage{number}', _sequence(stage))
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) -> one (N, C, h, w) per stage asked for."""
        x, outs = self.stem(x), []
        for i in range(len(STAGES)):
            x = getattr(self, f'stage{i + 2}')(x)
            outs += [x] if i in self.out_indices else []
        return tuple(outs)

    def train(self, mode: bool = True) -> 'VoVNet':
        """Training mode, but for what is frozen and for norms."""
        super().train(mode)
        self._freeze()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        for name in ('stem', *(f'stage{i + 1}' for i in range(1, self.frozen_stages + 1))):
            getattr(self, name).eval().requires_grad_(False)

"""A detector of a few lines and its adapter: a new host is one file, and nothing else had to change for it."""

from typing import Any

import torch
from mmdet.models import DETECTORS
from mmdet.models.detectors.base import BaseDetector
from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.hosts.adapter import Batch, HostAdapter
from projects.mmdet3d_plugin.distill.registry import ADAPTERS
from projects.mmdet3d_plugin.distill.taps import Tap

PC_RANGE = [-8.0, -8.0, -5.0, 8.0, 8.0, 3.0]
CLASSES = ['car', 'pedestrian']


class RandomMask(nn.Module):
    """Like GridMask: hides part of the input, in training mode only."""

    def forward(self, img: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, H, W)."""
        return img * (torch.rand_like(img) > 0.5) if self.training else img


class ToyHead(nn.Module):
    """Adds a learned embedding per BEV cell; one number per cell is the prediction."""

    def __init__(self, channels: int, bev_size: int) -> None:
        super().__init__()
        self.bev_embedding = nn.Embedding(bev_size * bev_size, channels)
        self.out = nn.Conv2d(channels, 1, 1)
        self.bev_size = bev_size

    def forward(self, bev: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1, H, W)."""
        grid = self.bev_embedding.weight.t().view(1, -1, self.bev_size, self.bev_size)
        return self.out(bev + grid)


@DETECTORS.register_module()
class ToyBEVHost(nn.Module):
    """Image (B, T, 3, S, S) -> BEV (B, C, S, S) -> map of scores; earlier frames are added to the last one."""

    def __init__(
        self,
        channels: int = 4,
        bev_size: int = 8,
        sloppy: bool = False,
        train_cfg: Any = None,
        test_cfg: Any = None,
    ) -> None:
        super().__init__()
        self.mask = RandomMask()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.dropout = nn.Dropout(0.5)
        self.bev = nn.AdaptiveAvgPool2d(bev_size)
        self.encoder = nn.Conv2d(channels, channels, 3, padding=1)
        self.never = nn.Linear(1, 1)
        self.head = ToyHead(channels, bev_size)
        self.sloppy = sloppy
        self.channels, self.bev_size = channels, bev_size

    _parse_losses = BaseDetector._parse_losses

    def init_weights(self) -> None:
        """Constants that a test can recognise."""
        for parameter in self.parameters():
            nn.init.constant_(parameter, 0.01)

    def look(self, img: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, C, bev_size, bev_size)."""
        return self.encoder(self.bev(self.dropout(self.backbone(self.mask(img)))))

    def history(self, img: Tensor) -> Tensor:
        """Earlier frames (B, T - 1, 3, S, S). A sloppy host leaves itself in training mode, as upstream did."""
        was = self.training
        self.eval()
        with torch.no_grad():
            memory = sum(self.look(img[:, t]) for t in range(img.shape[1]))
        self.train(True if self.sloppy else was)
        return memory

    def predict(self, img: Tensor, memory: Tensor | None) -> Tensor:
        """(B, 1, 3, S, S) -> (B, 1, H, W)."""
        bev = self.look(img[:, -1])
        return self.head(bev if memory is None else bev + memory)

    def forward_train(
        self, img: Tensor, img_metas: list, memory: Tensor | None = None, **_: Any
    ) -> dict[str, Tensor]:
        """One detection loss."""
        return {'loss_toy': self.predict(img, memory).square().mean()}

    def forward_test(self, img: Tensor, img_metas: list, **_: Any) -> list[float]:
        """One number per sample."""
        return self.predict(img, None).mean((1, 2, 3)).tolist()

    def forward(self, return_loss: bool = True, **batch: Any) -> Any:
        """mmdet's entry."""
        return self.forward_train(**batch) if return_loss else self.forward_test(**batch)


@ADAPTERS.register_module(name='ToyBEVHost')
class ToyAdapter(HostAdapter):
    """The adapter of :class:`ToyBEVHost`."""

    head = 'head'

    def prepare(self, model: ToyBEVHost, batch: Batch) -> Batch:
        """Earlier frames, outside the taps."""
        memory = model.history(batch['img'][:, :-1]) if batch['img'].shape[1] > 1 else None
        return {**batch, 'img': batch['img'][:, -1:], 'memory': memory}

    def infer(self, model: ToyBEVHost, batch: Batch) -> Tensor:
        """(B, 1, H, W)."""
        return model.predict(batch['img'], batch['memory'])

    def aliases(self, model: ToyBEVHost) -> dict[str, list[Tap]]:
        """'bev' and the two 'stages'."""
        size = (model.bev_size, model.bev_size)
        return {
            'bev': [Tap('encoder', channels=model.channels, size=size)],
            'stages': [Tap(f'backbone.{i}', channels=model.channels) for i in range(2)],
        }

    def grids(self, model: ToyBEVHost) -> dict[str, tuple[int, ...]]:
        """The BEV embedding."""
        return {'head.bev_embedding.weight': (model.bev_size, model.bev_size)}


def toy_batch(
    batch_size: int = 2, frames: int = 2, size: int = 16, boxes: int = 2, seed: int = 0
) -> dict[str, Any]:
    """A collated batch for the toy host; boxes are plain (n, 7) tensors."""
    generator = torch.Generator().manual_seed(seed)
    metas = [[{'pc_range': PC_RANGE} for _ in range(frames)] for _ in range(batch_size)]
    place = torch.rand(batch_size, boxes, 2, generator=generator) * 14 - 7
    rest = torch.tensor([0.0, 4.0, 2.0, 1.5, 0.3]).expand(batch_size, boxes, 5)
    return {
        'img': torch.randn(batch_size, frames, 3, size, size, generator=generator),
        'img_metas': metas,
        'gt_bboxes_3d': list(torch.cat([place, rest], dim=-1)),
        'gt_labels_3d': [torch.zeros(boxes, dtype=torch.long)] * batch_size,
    }

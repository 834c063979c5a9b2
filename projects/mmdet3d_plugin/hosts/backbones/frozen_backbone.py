"""A pretrained image backbone that does not learn, and need not look at the same image twice."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.runner import BaseModule
from mmdet.models import BACKBONES, build_backbone
from torch import Tensor

from projects.mmdet3d_plugin.common.digest import digest_of
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import read_arrays, write_file


@BACKBONES.register_module()
class FrozenBackbone(BaseModule):
    """Another backbone, frozen: no gradients, no statistics, and no second look at an image.

    What it says of an image never changes, so that every epoch after the first costs nothing. Only of use without
    random changes to the images.

    Args:
        backbone: config of the backbone.
        cache_dir: folder in which its features are kept, one file per image in half precision; None keeps nothing.
        init_cfg: initialisation, see mmcv.
    """

    def __init__(
        self, backbone: dict[str, Any], cache_dir: str | None = None, init_cfg: dict[str, Any] | None = None
    ) -> None:
        super().__init__(init_cfg)
        self.backbone = build_backbone(backbone).requires_grad_(False)
        self.backbone.eval()
        self.cache_dir = None if cache_dir is None else Path(cache_dir)
        self._cfg = dict(backbone)
        self._digest: str | None = None

    def train(self, mode: bool = True) -> 'FrozenBackbone':
        """Stay in evaluation mode."""
        return super().train(False)

    def _load_from_state_dict(self, *args: Any) -> None:
        self._digest = None  # the weights may become others
        super()._load_from_state_dict(*args)

    @torch.no_grad()
    def forward(self, img: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> one (N, C_i, h_i, w_i) per level."""
        if self.cache_dir is None:
            return list(self.backbone(img))
        paths = [self._path(image) for image in img]
        kept = [_read_maps(path) for path in paths]
        missing = [i for i, maps in enumerate(kept) if maps is None]
        if missing:
            self.cache_dir.mkdir(parents=True, exist_ok=True)
            for i, *levels in zip(missing, *self.backbone(img[missing]), strict=True):
                kept[i] = [level.half().cpu().numpy() for level in levels]
                write_file(paths[i], lambda file, maps=kept[i]: np.savez(file, *maps), sync=False)
        return [torch.from_numpy(np.stack(level)).to(img) for level in zip(*kept, strict=True)]

    def _path(self, image: Tensor) -> Path:
        """Where the features of an image (3, H, W) lie: told by its pixels, the weights, and which maps are asked for."""
        if self._digest is None:
            self._digest = digest_of([self._cfg, self.backbone.state_dict()])
        return self.cache_dir / f'{digest_of([self._digest, image])}.npz'


def _read_maps(path: Path) -> list[np.ndarray] | None:
    """Kept feature maps of an image; None when there are none, or a crash of the machine damaged the file."""
    try:
        return list(read_arrays(path).values())
    except UserError:
        return None

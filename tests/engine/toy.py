"""A detector and a dataset so small that whole training runs fit into a test; registered like real ones."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv import Config
from mmcv.parallel import DataContainer
from mmdet.datasets.builder import DATASETS
from mmdet.models.builder import DETECTORS
from torch import nn
from torch.utils.data import Dataset

from projects.mmdet3d_plugin.engine.launch import Launch

ONE_PROCESS = Launch(0, 1, torch.device('cpu'), False)


class ToyMemory:
    """Counts frames of the current scene."""

    def __init__(self) -> None:
        self.scene, self.frames = '', 0

    def see(self, scene: str) -> int:
        """Number of frames of this scene so far, this one included."""
        self.frames = self.frames + 1 if scene == self.scene else 1
        self.scene = scene
        return self.frames


@DETECTORS.register_module()
class ToyDetector(nn.Module):
    """Regresses one number per image through a convolution and dropout."""

    def __init__(self, width: int = 4, dropout: float = 0.2, unused: bool = False) -> None:
        super().__init__()
        self.img_backbone = nn.Conv2d(3, width, 3, padding=1)
        self.drop = nn.Dropout(dropout)
        self.pts_bbox_head = nn.Linear(width, 1)
        if unused:
            self.unused = nn.Linear(2, 2)

    def new_memory(self) -> ToyMemory:
        """A fresh temporal state."""
        return ToyMemory()

    def predict(self, img: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B,)."""
        return self.pts_bbox_head(self.drop(self.img_backbone(img).relu()).mean((2, 3)))[:, 0]

    def forward(self, return_loss: bool = True, **batch: Any) -> Any:
        """Losses, or one result per sample."""
        return self.forward_train(**batch) if return_loss else self.forward_test(**batch)

    def forward_train(self, img: torch.Tensor, target: torch.Tensor, **_: Any) -> dict[str, torch.Tensor]:
        """Two named losses."""
        error = self.predict(img).float() - target
        return dict(loss_square=(error**2).mean(), loss_absolute=error.abs().mean())

    def forward_test(self, img: torch.Tensor, img_metas: list, memory: ToyMemory, **_: Any) -> list[dict]:
        """The number, and which frame of its scene this was."""
        values = self.predict(img)
        frames = [memory.see(meta['scene']) for meta in img_metas]
        return [dict(value=value, frame=frame) for value, frame in zip(values, frames, strict=True)]

    def train_step(self, data: dict[str, Any], optimizer: Any = None) -> dict[str, Any]:
        """As mmcv's runner wants it."""
        losses = self(**data)
        loss = sum(losses.values())
        log_vars = {name: value.item() for name, value in losses.items()}
        return dict(loss=loss, log_vars={**log_vars, 'loss': loss.item()}, num_samples=len(data['target']))


@DATASETS.register_module()
class ToyDataset(Dataset):
    """Random images of some scenes, the same for every run; train samples are jittered by chance."""

    CLASSES = ('car', 'truck')

    def __init__(
        self, size: int = 10, scene_length: int = 3, test_mode: bool = False, jitter: float = 0.1
    ) -> None:
        rng = np.random.default_rng(0)
        self.images = rng.normal(size=(size, 3, 8, 8)).astype(np.float32)
        self.scene_tokens = [f'scene-{index // scene_length}' for index in range(size)]
        self.test_mode = test_mode
        self.jitter = jitter

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = torch.from_numpy(self.images[int(index)])
        if not self.test_mode:
            # From the global state on purpose: resuming has to bring that back too.
            image = image + self.jitter * np.random.rand()
        sample = dict(
            img=DataContainer(image, stack=True),
            img_metas=DataContainer(
                dict(scene=self.scene_tokens[int(index)], index=int(index)), cpu_only=True
            ),
        )
        return sample if self.test_mode else {**sample, 'target': image.mean().float()}

    def evaluate(self, results: list[dict], out_dir: str | None = None, **_: Any) -> dict[str, float]:
        """Not a real metric: what came out, in a form that shows order and memory."""
        places = np.arange(1, len(results) + 1)
        values = np.array([float(result['value']) for result in results])
        return {
            'NDS': float((values * places).mean()),
            'mAP': 0.5,
            'AP/car': 0.25,
            'frames': float((np.array([result['frame'] for result in results]) * places).sum()),
        }


def toy_config(work_dir: Path, epochs: int = 2, **changes: Any) -> Config:
    """A complete config of the toy detector."""
    cfg = Config(
        dict(
            model=dict(type='ToyDetector'),
            data=dict(
                samples_per_gpu=2,
                workers_per_gpu=0,
                train=dict(type='ToyDataset'),
                val=dict(type='ToyDataset', size=7),
                test=dict(type='ToyDataset', size=7),
            ),
            optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.01),
            optimizer_config=dict(grad_clip=dict(max_norm=35, norm_type=2)),
            lr_config=dict(policy='CosineAnnealing', warmup='linear', warmup_iters=3, min_lr_ratio=1e-3),
            runner=dict(type='EpochBasedRunner', max_epochs=epochs),
            checkpoint_config=dict(interval=1),
            log_config=dict(interval=2, hooks=[dict(type='TextLoggerHook', ignore_last=False)]),
            custom_imports=dict(imports=['tests.engine.toy'], allow_failed_imports=False),
            work_dir=str(work_dir),
        )
    )
    cfg.merge_from_dict(copy.deepcopy(changes))  # mmcv takes _delete_ out of what it is given
    return cfg

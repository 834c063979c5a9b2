"""Small head outputs of a CenterPoint with two tasks, and ground truth for them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.step import Step

PC_RANGE = [0.0, -4.0, -3.0, 10.0, 4.0, 1.0]
SIZE = (8, 10)
TASKS = (1, 2)
WIDTHS = {'reg': 2, 'height': 1, 'dim': 3, 'rot': 2}

Heads = list[dict[str, Tensor]]


def heads(
    seed: int, batch_size: int = 2, size: tuple[int, int] = SIZE, tasks: Sequence[int] = TASKS
) -> Heads:
    """Random raw outputs in float64; cells are 1 m at ``SIZE``."""
    generator = torch.Generator().manual_seed(seed)

    def tensor(channels: int) -> Tensor:
        return torch.randn(batch_size, channels, *size, generator=generator, dtype=torch.float64)

    return [
        {'heatmap': tensor(count)} | {key: tensor(width) for key, width in WIDTHS.items()} for count in tasks
    ]


def step(boxes: Sequence[Sequence[Sequence[float]]], labels: Sequence[Sequence[int]]) -> Step:
    """Ground truth: per sample ``(x, y)`` of boxes of 2 m x 1 m, and their labels."""
    shape = [-1.0, 2.0, 1.0, 1.5, 0.3]
    tensors = [torch.tensor([[*place, *shape] for place in sample]).view(-1, 7) for sample in boxes]
    return Step(
        batch={
            'img_metas': [{'pc_range': PC_RANGE}] * len(tensors),
            'gt_bboxes_3d': tensors,
            'gt_labels_3d': [torch.tensor(sample, dtype=torch.long) for sample in labels],
        },
        student={},
        teacher={},
    )


TWO_SAMPLES = ([[(2.5, 0.2), (7.1, -2.9)], [(5.5, 1.5), (1.2, 3.3)]], [[0, 2], [1, 0]])


def half(heads: Heads, i: int) -> Heads:
    """One sample of a batch."""
    return [{key: value[i : i + 1] for key, value in head.items()} for head in heads]


def half_step(world: Step, i: int) -> Step:
    """One sample of the ground truth."""
    return Step({key: value[i : i + 1] for key, value in world.batch.items()}, {}, {})

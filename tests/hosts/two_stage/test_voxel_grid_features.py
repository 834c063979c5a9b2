"""Features from the sparse voxels of the 3D encoder."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from projects.mmdet3d_plugin.hosts.two_stage.first_stage_maps import SparseVoxels
from projects.mmdet3d_plugin.hosts.two_stage.proposals import Proposals
from projects.mmdet3d_plugin.hosts.two_stage.voxel_grid_features import VoxelGridFeatures
from tests.hosts.two_stage.test_boxes import proposals_of

RANGE = [0.0, -3.2, -3.0, 6.4, 3.2, 1.0]
SHAPE = (4, 16, 16)  # cells of 0.4 x 0.4 x 1 m


def part_of(norm: str = 'layer', **changes: Any) -> VoxelGridFeatures:
    torch.manual_seed(0)
    stages = [dict(map='voxels_1', channels=3, stride=2, radius=1.1)]
    settings = dict(stages=stages, pc_range=RANGE, voxel_size=[0.2, 0.2, 0.5], grid=2, channels=4, norm=norm)
    return VoxelGridFeatures(**{**settings, **changes}).double()


def scene(seed: int, sample: int = 0) -> tuple[Proposals, SparseVoxels]:
    rng = np.random.default_rng(seed)
    cells = np.stack(np.unravel_index(rng.permutation(4 * 16 * 16)[:300], SHAPE), 1)
    indices = torch.tensor(np.c_[np.full(300, sample), cells], dtype=torch.int32)
    boxes = torch.tensor(rng.uniform([1, -2, -2, 1, 1, 1, -3], [5, 2, -1, 4, 2, 2, 3], (3, 7)))
    return proposals_of(boxes, [sample] * 3), SparseVoxels(
        torch.tensor(rng.normal(size=(300, 3))), indices, SHAPE
    )


def by_definition(part: VoxelGridFeatures, proposals: Proposals, voxels: SparseVoxels) -> Tensor:
    """Box by box, point by point, voxel by voxel."""
    pooling = part.pooling[0]
    centers = (voxels.indices[:, [3, 2, 1]] + 0.5) * torch.tensor([0.4, 0.4, 1.0], dtype=torch.float64)
    centers = centers + torch.tensor(RANGE[:3])
    order = np.lexsort(voxels.indices[:, [3, 2, 1]].T.numpy())
    rows = []
    for box in proposals.boxes:
        row = []
        for i, j, k in np.ndindex(2, 2, 2):
            ahead, left, up = (torch.tensor([i, j, k]) / 2 - 0.25) * box[3:6]
            cos, sin = box[6].cos(), box[6].sin()
            place = torch.stack([
                box[0] + ahead * cos - left * sin, box[1] + ahead * sin + left * cos, box[2] + box[5] / 2 + up
            ])  # fmt: skip
            best, count = torch.zeros(4, dtype=torch.float64), 0
            for v in order:
                offset = centers[v] - place
                if offset.norm() <= 1.1 and count < 16:
                    seen = pooling.voxel(voxels.features[v][None]) + pooling.place(offset[None])
                    best, count = torch.maximum(best, seen[0]), count + 1
            row.append(pooling.last(best[None])[0])
        rows.append(torch.cat(row))
    return torch.stack(rows)


def test_points_take_the_maximum_over_the_voxels_around() -> None:
    part, (proposals, voxels) = part_of(), scene(0)
    found = part(proposals, {'voxels_1': voxels}, [])
    wanted = by_definition(part, proposals, voxels)
    assert found.shape == (3, part.width)
    torch.testing.assert_close(found, wanted)


def test_gradients_in_features_and_weights() -> None:
    part, (proposals, voxels) = part_of(), scene(1)
    weight = part.pooling[0].place[0].weight

    def total(features: Tensor, weight: Tensor) -> Tensor:
        part.pooling[0].place[0].weight = weight
        return part(proposals, {'voxels_1': voxels._replace(features=features)}, [])

    del part.pooling[0].place[0]._parameters['weight']
    inputs = voxels.features.requires_grad_(), weight.detach().requires_grad_()
    assert torch.autograd.gradcheck(total, inputs, fast_mode=True)


def test_two_clouds_are_twice_one_and_nothing_is_nothing() -> None:
    part, scenes = part_of('batch').eval(), [scene(0, 0), scene(1, 1)]
    alone = [
        part(replace(p, batch_index=p.batch_index * 0), {'voxels_1': _of_sample_0(v)}, []) for p, v in scenes
    ]
    both = SparseVoxels(*(torch.cat(pair) for pair in zip(*(v[:2] for _, v in scenes), strict=True)), SHAPE)
    proposals = Proposals.cat([p for p, _ in scenes])
    torch.testing.assert_close(part(proposals, {'voxels_1': both}, []), torch.cat(alone))
    part.train()
    none = SparseVoxels(both.features[:0].requires_grad_(), both.indices[:0], SHAPE)
    for some, voxels in ((proposals[:0], both), (proposals, none), (proposals[:0], none)):
        found = part(some, {'voxels_1': voxels}, [])
        assert found.shape == (len(some), part.width)
        found.sum().backward()
        assert all(weight.grad is not None for weight in part.parameters())


def _of_sample_0(voxels: SparseVoxels) -> SparseVoxels:
    indices = voxels.indices.clone()
    indices[:, 0] = 0
    return voxels._replace(indices=indices)


@pytest.mark.parametrize('name', ['voxels_0', 'voxels_1'])
def test_cells_lie_where_the_voxels_are(name: str) -> None:
    stages = [
        dict(map='voxels_0', channels=3, stride=1, radius=1),
        dict(map='voxels_1', channels=3, stride=2, radius=1),
    ]
    part = part_of(stages=stages)
    stage = next(stage for stage in part.stages if stage.map == name)
    grid = part.cells(stage, scene(0)[1])
    assert grid.size == pytest.approx([0.2 * stage.stride, 0.2 * stage.stride, 0.5 * stage.stride])
    assert grid.origin == (0.0, -3.2, -3.0)

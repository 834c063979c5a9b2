"""Time lift-splat pooling and its geometry against the original's way, at the real shapes, in one process.

The original's way: points of the frustum through 4x4 matrices, the outer product of depth and context, and a scatter.

``python tools/benchmark/lift_splat.py --json benchmarks/lift_splat_cpu.json`` takes minutes of one core;
``--device cuda`` is all a machine with a GPU needs.
"""

import argparse
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from projects.mmdet3d_plugin.datasets.nuscenes_rig import nuscenes_rig
from projects.mmdet3d_plugin.hosts.bevdepth.camera_matrices import CameraMatrices
from projects.mmdet3d_plugin.hosts.bevdepth.lift_splat import LiftSplat
from projects.mmdet3d_plugin.hosts.bevdepth.lift_splat_backbone import grid_buffers
from projects.mmdet3d_plugin.ops.lift_splat import lift_cells, lift_splat, lift_splat_torch
from tools.benchmark.options import parse_lift_splat
from tools.benchmark.timing import interleaved, memory, save_report, start_report

SHAPES = {'256x704': (256, 704, 0.44), '512x1408': (512, 1408, 0.88)}
CHANNELS = 80


class Bench:
    """One image size: features by chance, the cameras of a nuScenes car, truncated cells as published.

    Args:
        height: of the images in pixels.
        width: of the images in pixels.
        scale: on which the 1600x900 images were resized before they were cropped.
        device: where everything lies.
    """

    def __init__(self, height: int, width: int, scale: float, device: str) -> None:
        torch.manual_seed(0)
        self.lift = LiftSplat(
            [-51.2, -51.2, -5, 51.2, 51.2, 3], 0.8, (2.0, 58.0, 0.5), (height, width), 16, truncate=True
        )
        ida = np.array([[scale, 0, 0], [0, scale, height - 900 * scale], [0, 0, 1]])
        intrinsic, cam2lidar = nuscenes_rig()
        meta = dict(cam2lidar=cam2lidar, cam_intrinsic=ida @ intrinsic, ida=np.tile(ida, (6, 1, 1)))
        self.matrices = CameraMatrices.of([meta]).to(torch.device(device))
        h, w, bins = height // 16, width // 16, len(self.lift.bins)
        self.depth = torch.randn(6, bins, h, w).softmax(1).to(device).requires_grad_()
        self.context = torch.randn(6, CHANNELS, h, w).to(device).requires_grad_()
        grad = torch.randn(1, CHANNELS, *self.lift.size).to(device)
        self.grad = grad.contiguous(memory_format=torch.channels_last)
        self.frustum = grid_buffers(self.lift)['frustum'].to(device)

    def where(self) -> tuple[Any, ...]:
        """What :func:`lift_splat` wants beside features."""
        bins = self.depth.new_tensor(self.lift.bins, dtype=torch.float64)
        return *self.lift.rays(self.depth, self.matrices), bins, self.lift.size, True

    def naive_cells(self) -> Tensor:
        """Cells (N,) of all points of all cameras, each through the matrices by itself; the last cell is for none."""
        ida, combine = (torch.eye(4, device=self.depth.device).repeat(6, 1, 1) for _ in range(2))
        ida[:, :2, :2], ida[:, :2, 3] = self.matrices.ida[0, :, :2, :2], self.matrices.ida[0, :, :2, 2]
        combine[:, :3, :3] = self.matrices.intrinsic[0]
        combine = self.matrices.cam2frame[0].float() @ combine.inverse()
        points = ida.inverse()[:, None, None, None] @ self.frustum[..., None]
        points = torch.cat([points[..., :2, :] * points[..., 2:3, :], points[..., 2:, :]], -2)
        points = combine[:, None, None, None] @ points
        points = (self.matrices.bda[0].float() @ points).squeeze(-1)[..., :3]
        low, high = points.new_tensor(self.lift.pc_range).view(2, 3)
        count = points.new_tensor([*self.lift.size[::-1], 1])
        cell = ((points - low) / ((high - low) / count)).int()
        inside = ((cell >= 0) & (cell < count)).all(-1)
        h, w = self.lift.size
        return (cell[..., 1] * w + cell[..., 0]).where(inside, h * w).flatten().long()

    def naive(self, cells: Tensor | None = None) -> Tensor:
        """The outer product and a scatter: (1, C, H, W)."""
        cells, (h, w) = self.naive_cells() if cells is None else cells, self.lift.size
        outer = (self.depth[:, None] * self.context[:, :, None]).permute(0, 2, 3, 4, 1).reshape(-1, CHANNELS)
        bev = outer.new_zeros(h * w + 1, CHANNELS).index_add(0, cells, outer)[:-1]
        return bev.view(1, h, w, CHANNELS).permute(0, 3, 1, 2)

    def ours(self, where: tuple[Any, ...] | None = None) -> Tensor:
        """(1, C, H, W)."""
        return lift_splat(self.depth, self.context, *(where or self.where()))

    def one_channel(self) -> Tensor:
        """Geometry cannot be taken out of the operator: with one channel it does little else. (1, 1, H, W)."""
        return lift_splat(self.depth, self.context[:, :1], *self.where())

    def bags(self, where: tuple[Any, ...]) -> Tensor:
        """(1, C, H, W), by ``embedding_bag``."""
        return lift_splat_torch(self.depth, self.context, *where)

    def step(self, function: Any) -> None:
        """Forward and backward."""
        self.depth.grad = self.context.grad = None
        function().backward(self.grad)

    def cases(self) -> dict[str, Any]:
        """Name -> call."""
        where, cells = self.where(), self.naive_cells()
        ways = {
            'naive': partial(self.naive, cells),
            'ours': partial(self.ours, where),
            'bags': partial(self.bags, where),
            'naive whole': self.naive,
            'ours whole': self.ours,
        }
        forward = {f'{name} forward': torch.no_grad()(way) for name, way in ways.items()}
        both = {f'{name} both': partial(self.step, way) for name, way in ways.items()}
        geometry = {
            'naive geometry': self.naive_cells,
            'ours geometry': torch.no_grad()(self.one_channel),
            'torch geometry': lambda: lift_cells(*self.where()),
        }
        return forward | both | geometry


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds, ratios, error and extra megabytes at one image size."""
    bench = Bench(*SHAPES[name], args.device)
    cases = bench.cases()
    rounds = {case: min(args.rounds, 3) if 'naive' in case else args.rounds for case in cases}
    ms = interleaved(cases, rounds, args.device)
    ratio = {
        f'{what} {way}': ms[f'naive{part} {way}'] / ms[f'ours{part} {way}']
        for what, part in (('pooling', ''), ('with geometry', ' whole'))
        for way in ('forward', 'both')
    }
    ratio |= {
        'bags both': ms['bags both'] / ms['ours both'],
        'geometry': ms['naive geometry'] / ms['ours geometry'],
    }
    with torch.no_grad():
        exact = lift_splat(bench.depth.double(), bench.context.double(), *bench.where())
        error = (bench.ours() - exact).abs().max().item()
    extra = {who: memory(cases[f'{who} forward'], args.device).temporary for who in ('naive', 'ours')}
    return dict(points=bench.depth.numel(), ms=ms, ratio=ratio, error=error, temporary_mb=extra)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark from the command line and return the report."""
    args = parse_lift_splat(argv)
    report = start_report(args) | {'shapes': {}}
    for name in args.shapes:
        row = report['shapes'][name] = measure(name, args)
        print(f'{name}: {row["points"]} points, error {row["error"]:.1e}')
        print('  ms:   ', ', '.join(f'{case} {value:.1f}' for case, value in row['ms'].items()))
        print('  ratio:', ', '.join(f'{case} {value:.1f}x' for case, value in row['ratio'].items()))
        print(
            '  temporary MB:', ', '.join(f'{who} {value:.1f}' for who, value in row['temporary_mb'].items())
        )
    return save_report(report, args.json)

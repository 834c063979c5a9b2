"""Time DETR3D's look-ups in image features: ours, plain torch and the way of the original, in one process.

``python tools/benchmark/gather_maps.py --json benchmarks/gather_maps_cpu.json`` takes about two minutes of one core. The
original samples every level of every camera for every query with grid_sample, and multiplies by mask and weight afterwards.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from projects.mmdet3d_plugin.common.files import write_json
from projects.mmdet3d_plugin.hosts.detr3d.camera_cross_attention import CameraViews
from projects.mmdet3d_plugin.ops import library
from projects.mmdet3d_plugin.ops.gather_maps import FeatureMaps, gather_seen
from projects.mmdet3d_plugin.ops.pages import kept_pages
from tools.benchmark.options import parse_gather_maps
from tools.benchmark.rig import lidar_to_image
from tools.benchmark.timing import interleaved, machine, memory

PC_RANGE = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
QUERIES, CHANNELS = 900, 256
# padded image (h, w), image scale, feature levels (h, w)
MODELS = {
    '928x1600': ((928, 1600), 1.0, ((116, 200), (58, 100), (29, 50), (15, 25))),
    '480x800': ((480, 800), 0.5, ((60, 100), (30, 50), (15, 25), (8, 13))),
}
GOAL = {'speed': 10.0, 'memory': 20.0}
"""How many times faster per layer, forward and backward, and how much less temporary memory, than the original."""


class Inputs:
    """Features and a decoder's reference points and weights on one size of images.

    Args:
        model: a key of ``MODELS``.
        layers: decoder layers.
    """

    def __init__(self, model: str, layers: int) -> None:
        (h, w), scale, shapes = MODELS[model]
        torch.manual_seed(0)
        lidar2img = lidar_to_image(scale)[None]
        cameras = lidar2img.shape[1]
        maps = [torch.randn(cameras, CHANNELS, *shape) for shape in shapes]
        self.levels = [m.contiguous(memory_format=torch.channels_last).requires_grad_() for m in maps]
        self.contiguous = [level.detach().contiguous().requires_grad_() for level in self.levels]
        size = torch.tensor([float(w), float(h)]).expand(1, cameras, 2)
        views = CameraViews(None, lidar2img, size, PC_RANGE)
        self.layers = [views.project(torch.rand(1, QUERIES, 3)) for _ in range(layers)]
        shape = (1, QUERIES, cameras, len(shapes))
        self.weights = [torch.rand(shape).requires_grad_() for _ in range(layers)]

    def ours(self, backward: bool) -> Any:
        """All layers by :func:`gather_seen`; with ``backward`` the gradients too."""
        with torch.set_grad_enabled(backward):
            maps, outs = FeatureMaps(self.levels), []
            for (places, seen), weights in zip(self.layers, self.weights, strict=True):
                outs.append(gather_seen(maps, places, weights, seen))
        return self._finish(outs, [*self.levels, *self.weights], backward)

    def original(self, backward: bool) -> Any:
        """All layers the way of the original; with ``backward`` the gradients too."""
        with torch.set_grad_enabled(backward):
            pairs = zip(self.layers, self.weights, strict=True)
            outs = [sampled_everywhere(self.contiguous, *layer, weights) for layer, weights in pairs]
        return self._finish(outs, [*self.contiguous, *self.weights], backward)

    @staticmethod
    def _finish(outs: list[Tensor], leaves: list[Tensor], backward: bool) -> Any:
        return torch.autograd.grad(sum(out.sum() for out in outs), leaves) if backward else outs


def sampled_everywhere(levels: list[Tensor], places: Tensor, seen: Tensor, weights: Tensor) -> Tensor:
    """grid_sample of every level and camera for all queries, then mask, weight and sum, as the original computes it.

    Args:
        levels: L tensors (num_cams, C, h, w).
        places: (1, Q, num_cams, 2), in units of the image.
        seen: (1, Q, num_cams), bool.
        weights: (1, Q, num_cams, L).

    Returns:
        (Q, C).
    """
    grid = (places[0].transpose(0, 1) * 2 - 1)[:, :, None]
    sampled = [F.grid_sample(level, grid, align_corners=False) for level in levels]
    stacked = torch.nan_to_num(torch.stack(sampled, -1))  # (num_cams, C, Q, 1, L)
    share = weights[0].transpose(0, 1)[:, None, :, None]
    return (stacked * share * seen[0].t()[:, None, :, None, None]).sum((0, 3, 4)).t()


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark from the command line and return the report."""
    args = parse_gather_maps(argv)
    torch.set_num_threads(1)
    report: dict[str, Any] = {'machine': machine('cpu'), 'layers': args.layers, 'goal': GOAL, 'rows': []}
    print(report['machine'])
    for model in args.models:
        inputs = Inputs(model, args.layers)
        for backward in (False, True):
            row = measure(inputs, backward, args.rounds)
            report['rows'].append({'model': model, 'mode': 'both' if backward else 'forward', **row})
            print(report['rows'][-1], flush=True)
    if args.json:
        write_json(args.json, report, indent=2)
    return report


def measure(inputs: Inputs, backward: bool, rounds: int) -> dict[str, Any]:
    """Milliseconds per layer, megabytes beyond the results, and the original's multiple of ours."""
    cases: dict[str, Callable[[], Any]] = {
        'ours': partial(inputs.ours, backward),
        'torch': partial(_without_kernels, partial(inputs.ours, backward)),
        'original': partial(inputs.original, backward),
    }
    held = {name: memory(case, 'cpu').temporary for name, case in cases.items()}
    with kept_pages():  # as training does; the original gains by it too
        times = interleaved(cases, dict.fromkeys(cases, rounds), 'cpu')
    per_layer = {name: ms / len(inputs.layers) for name, ms in times.items()}
    return {
        'ms_per_layer': per_layer,
        'temporary_mb': held,
        'speed': per_layer['original'] / per_layer['ours'],
        'memory': held['original'] / held['ours'],
    }


def _without_kernels(case: Callable[[], Any]) -> Any:
    with library.pure_torch():
        return case()

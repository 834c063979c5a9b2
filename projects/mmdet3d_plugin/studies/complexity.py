"""What one forward costs: parameters, multiply-accumulates and memory, without data files.

One GFLOP here is 1e9 multiply-accumulates, as in the tables of BEVFormer and FocalDistiller. Two counts are given:

computed
    What our code really computes: convolutions (deformable ones with their sampling), matrix products, attention and
    bilinear sampling, whether a module or a function does it. Element-wise operations and norms are left out.

published
    The rule behind the published figures, ``mmcv.cnn.get_model_complexity_info``: modules only, element-wise layers
    and norms included; it misses the main DCNv2 convolutions and all functional matrix products. The published
    figures were taken on an implementation of spatial cross-attention that pads every camera's queries to the
    camera that sees most and projects the padded rows; our host projects every query once. For those two
    projections the rule is applied to the padded rows, whose number follows from the geometry of the run.
"""

import argparse
import resource
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv import Config, DictAction
from mmcv.cnn.utils.flops_counter import get_modules_mapping
from mmcv.utils import build_from_cfg
from mmdet.datasets.builder import PIPELINES
from mmdet3d.core.bbox import LiDARInstance3DBoxes
from rich.table import Table
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import to_json, write_json
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.common.tables import make_console
from projects.mmdet3d_plugin.datasets.nuscenes_rig import IMAGE_SIZE, nuscenes_rig
from projects.mmdet3d_plugin.engine import cli
from projects.mmdet3d_plugin.hosts.bevformer.reference_points import VisiblePairs
from projects.mmdet3d_plugin.hosts.bevformer.spatial_cross_attention import CameraDeformableAttention
from projects.mmdet3d_plugin.ops.linear import Linear
from projects.mmdet3d_plugin.studies.op_counter import OpCounter

GIGA, MEGA, GIBI = 1e9, 1e6, 2**30
# Part -> module. What runs inside two of them is booked under the inner one.
PARTS = {
    'backbone': 'img_backbone',
    'neck': 'img_neck',
    'encoder': 'pts_bbox_head.transformer.encoder',
    'decoder': 'pts_bbox_head.transformer.decoder',
    'head': 'pts_bbox_head',
}


@dataclass(frozen=True)
class Cost:
    """Cost of one part, or of the whole model.

    Attributes:
        trainable: parameters that get gradients.
        parameters: all parameters.
        computed: multiply-accumulates by our code.
        published: multiply-accumulates by the published rule.
    """

    trainable: int
    parameters: int
    computed: int
    published: int


@dataclass(frozen=True)
class Complexity:
    """Cost of one forward of one frame, six cameras, without a previous BEV feature.

    Attributes:
        image_shape: (H, W) of the padded images.
        parts: cost of each part, see ``PARTS``.
        total: their sum.
        operations: multiply-accumulates by our code, by operation.
        peak_bytes: most bytes of weights and activations alive at once, computed from shapes in fp32.
    """

    image_shape: tuple[int, int]
    parts: dict[str, Cost]
    total: Cost
    operations: dict[str, int]
    peak_bytes: int


class PublishedRule:
    """mmcv's counting rule, applied module by module while a model runs.

    Args:
        model: what is going to run.
        counter: knows the part that runs.

    Attributes:
        macs: part -> multiply-accumulates.
    """

    def __init__(self, model: nn.Module, counter: OpCounter) -> None:
        self.macs: Counter = Counter()
        self._counter = counter
        self._padded_rows: dict[nn.Module, int] = {}
        self._handles = []
        rules = {**get_modules_mapping(), Linear: get_modules_mapping()[nn.Linear]}
        for module in model.modules():
            if type(module) in rules:
                self._handles.append(module.register_forward_hook(self._hook(rules[type(module)])))
            if isinstance(module, CameraDeformableAttention):
                self._handles.append(module.register_forward_pre_hook(self._note_padding))

    def remove(self) -> None:
        """Leave the model as it was."""
        for handle in self._handles:
            handle.remove()

    def _hook(self, rule: Any) -> Any:
        """mmcv's rule adds to an attribute of the module; move it from there to the part's account."""

        def book(module: nn.Module, inputs: tuple, output: Any) -> None:
            if module in self._padded_rows:
                macs = self._padded_rows[module] * module.in_features * module.out_features
            else:
                module.__flops__ = 0
                rule(module, inputs, output)
                macs = int(module.__flops__)
                del module.__flops__
            self.macs[self._counter.part] += macs

        return book

    def _note_padding(self, module: CameraDeformableAttention, inputs: tuple) -> None:
        """How many rows the published implementation would project: all cameras, padded to the fullest."""
        value = inputs[1]
        pairs = next(item for item in inputs if isinstance(item, VisiblePairs))
        rows = len(value) * int(torch.bincount(pairs.value_index).max())
        self._padded_rows.update({module.sampling_offsets: rows, module.attention_weights: rows})


def measure_complexity(model: nn.Module, img: Tensor, img_metas: list[list[dict]]) -> Complexity:
    """Count one forward without doing its arithmetic; image features are never computed at all.

    The model's backbone and neck are moved to the ``meta`` device and lose their values.

    Args:
        model: a host with the modules in ``PARTS``.
        img: (1, 1, num_cams, 3, H, W), only its shape matters.
        img_metas: of one frame of one sample, see :func:`rig_batch`.
    """
    model.eval()
    model.img_backbone.to('meta')
    model.img_neck.to('meta')
    counter = OpCounter(model)
    published = PublishedRule(model, counter)
    with ExitStack() as stack:
        stack.callback(published.remove)
        for part, path in PARTS.items():
            stack.callback(counter.watch(part, model.get_submodule(path)))
        # the head's geometry needs a device with values
        back = model.img_neck.register_forward_hook(lambda *call: _with_values(call[-1]))
        stack.callback(back.remove)
        stack.enter_context(counter.counting())
        model.predict_raw(img.to('meta'), img_metas)
    return _summarise(model, tuple(img.shape[-2:]), counter, published.macs)


def _with_values(feats: Sequence[Tensor]) -> list[Tensor]:
    """Tensors (B * num_cams, C, h, w) on the CPU, of no meaning, as the neck puts them out."""
    return [torch.empty(feat.shape) for feat in feats]


def _summarise(
    model: nn.Module, image_shape: tuple[int, int], counter: OpCounter, published: Counter
) -> Complexity:
    """Collect the accounts by part."""
    trainable, parameters = _parameters_by_part(model)
    names = [name for name in (*PARTS, 'other') if counter.macs[name] or parameters[name] or published[name]]
    computed = {name: counter.macs[name].total() for name in names}
    parts = {n: Cost(trainable[n], parameters[n], computed[n], published[n]) for n in names}
    total = Cost(*(sum(asdict(cost)[key] for cost in parts.values()) for key in Cost.__dataclass_fields__))
    operations = sum((counter.macs[name] for name in names), Counter())
    return Complexity(image_shape, parts, total, dict(operations.most_common()), counter.memory.peak)


def _parameters_by_part(model: nn.Module) -> tuple[Counter, Counter]:
    """Trainable and all parameters of each part; a parameter belongs to its innermost part."""
    trainable, parameters = Counter(), Counter()
    innermost_first = sorted(PARTS.items(), key=lambda item: -len(item[1]))
    for name, parameter in model.named_parameters():
        part = next((part for part, path in innermost_first if name.startswith(f'{path}.')), 'other')
        parameters[part] += parameter.numel()
        trainable[part] += parameter.numel() * parameter.requires_grad
    return trainable, parameters


def rig_batch(cfg: Config) -> tuple[Tensor, list[list[dict]]]:
    """One frame as the config's test pipeline would make it from the cameras of a nuScenes car, with blank images.

    Returns:
        img (1, 1, num_cams, 3, H, W), zeros, and its metas.
    """
    intrinsics, cam2lidar = nuscenes_rig()
    blank = np.zeros((*IMAGE_SIZE[::-1], 3), np.uint8)
    frame = dict(images=[blank] * len(intrinsics), cam_intrinsic=intrinsics, cam2lidar=cam2lidar)
    view = main_view(cfg)(frame)['views']['']
    shape = (*view['img_shape'], 3)
    meta = dict(
        lidar2img=view['lidar2img'],
        cam_intrinsic=view['cam_intrinsic'],
        cam2lidar=cam2lidar,
        img_shape=[shape] * len(intrinsics),
        can_bus=np.zeros(18),
        prev_bev_exists=False,
        prev_token='',
        sample_token='',
        box_type_3d=LiDARInstance3DBoxes,
    )
    return torch.from_numpy(view['img'])[None, None], [[meta]]


def main_view(cfg: Config) -> Callable[[dict], dict]:
    """The transform of the config's test pipeline that makes the model's own images."""
    steps = [step for step in cfg.data.test.pipeline if step['type'] == 'ImageView' and not step.get('name')]
    if len(steps) != 1:
        raise UserError(
            f'the test pipeline of {cfg.filename} must have one ImageView without a name, not {len(steps)}'
        )
    return build_from_cfg(dict(steps[0]), PIPELINES)


def measure_forward(model: nn.Module, img: Tensor, img_metas: list[list[dict]], device: str) -> int:
    """Really run one forward.

    Returns:
        Peak bytes: of the allocator on a GPU, of the process's resident memory beyond its present size on a CPU.
    """
    on_gpu = torch.device(device).type == 'cuda'
    before = _resident_bytes()
    model = model.to(device).eval()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    with torch.no_grad():
        model.forward_test(img.to(device), img_metas)
    if on_gpu:
        return torch.cuda.max_memory_allocated(device)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    # ru_maxrss is in KiB on Linux; the weights were resident before
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before + weights


def _resident_bytes() -> int:
    """Resident memory of this process."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * resource.getpagesize()


def complexity_table(name: str, result: Complexity) -> Table:
    """Costs by part, for a terminal."""
    height, width = result.image_shape
    table = Table(title=f'{name}: one frame, six cameras of {width}x{height}', title_justify='left')
    for column in ('part', 'trainable, M', 'parameters, M', 'computed, GFLOPs', 'published rule, GFLOPs'):
        table.add_column(column, justify='left' if column == 'part' else 'right')
    for part, cost in [*result.parts.items(), ('total', result.total)]:
        if part == 'total':
            table.add_section()
        table.add_row(
            part,
            f'{cost.trainable / MEGA:.2f}',
            f'{cost.parameters / MEGA:.2f}',
            f'{cost.computed / GIGA:.2f}',
            f'{cost.published / GIGA:.2f}',
        )
    return table


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of tools/analysis_tools/get_flops.py."""
    parser = argparse.ArgumentParser(
        description='Parameters, multiply-accumulates and peak memory of one forward. Needs no data: the cameras are '
        'those of a nuScenes car, the images blank; LiDAR detectors see an empty street. 1 GFLOP = 1e9 '
        'multiply-accumulates.'
    )
    parser.add_argument('config', help='config of a detector, or a recipe: then its student')
    parser.add_argument(
        '--json', nargs='?', const='-', metavar='FILE', help='write JSON to FILE, or to the terminal'
    )
    parser.add_argument(
        '--measure-memory', action='store_true', help='also run one real forward and report its peak memory'
    )
    parser.add_argument('--device', default='cpu', help='device of that forward')
    parser.add_argument(
        '--points',
        metavar='FILE.bin',
        help='LiDAR detectors: the cloud to count with; a made-up street by default',
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings, key=value')
    cli.run(_report_from, parser.parse_args(argv))


def _report_from(arguments: argparse.Namespace) -> None:
    """Measure and report as parsed arguments say."""
    cfg = load_config(arguments.config, arguments.cfg_options)
    if 'img_backbone' not in cfg.model:
        from projects.mmdet3d_plugin.studies.lidar_complexity import report_lidar  # builds on this module

        report_lidar(cfg, arguments)
        return
    img, metas = rig_batch(cfg)
    measured = None
    if arguments.measure_memory:
        measured = measure_forward(build_model(cfg.model), img, metas, arguments.device)
    result = measure_complexity(build_model(cfg.model), img, metas)
    content = {'config': Path(arguments.config).name, **asdict(result), 'measured_peak_bytes': measured}
    if print_json(content, arguments.json):
        return
    _report(Path(arguments.config).stem, result, measured)


def print_json(content: dict[str, Any], target: str | None) -> bool:
    """Write what was measured to a file, or to the terminal for '-'.

    Returns:
        Whether it went to the terminal, so that nothing else should.
    """
    if target == '-':
        print(to_json(content, indent=1))
    elif target:
        write_json(target, content, indent=1)
    return target == '-'


def _report(name: str, result: Complexity, measured: int | None) -> None:
    """Print the table, the operations and the memory."""
    console = make_console()
    console.print(complexity_table(name, result))
    operations = ', '.join(f'{op} {macs / GIGA:.2f}' for op, macs in result.operations.items())
    console.print(f'computed, by operation: {operations}')
    console.print(
        f'peak memory of one forward, fp32, weights + activations: {result.peak_bytes / GIBI:.2f} GiB'
    )
    if measured is not None:
        console.print(f'measured in a real forward: {measured / GIBI:.2f} GiB')
    console.print('1 GFLOP = 1e9 multiply-accumulates. Published rule: mmcv.cnn.get_model_complexity_info.')

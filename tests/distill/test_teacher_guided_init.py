"""Teacher-guided initialisation: what a truncated teacher computes, its student computes.

The teacher is truncated without any knowledge of how channels are wired: a hook sets to zero what every one of its
layers returns beyond the student's width. Whatever is concatenated, flattened or pooled afterwards is the real
detectors' own doing.
"""

import importlib.util
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from mmcv import Config
from mmdet3d.models import build_backbone, build_neck
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.distill.hosts.adapter import adapter_for
from projects.mmdet3d_plugin.distill.recipe import build_distiller
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.teacher_guided_init import first_channels, inherit_channels
from tests.lidar_factories import centerpoint_config, lidar_batch, pillar_config, second_config

Record = dict[str, list[Tensor]]


def build(cfg: dict[str, Any], seed: int = 0) -> nn.Module:
    """A detector in evaluation mode whose norms have seen something."""
    torch.manual_seed(seed)
    model = build_model(Config(dict(model=cfg)).model).eval()
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value.copy_(
                torch.rand_like(value) + 0.5 if name.endswith('running_var') else torch.randn_like(value) / 4
            )
    return model


def two_layers(width: int = 8) -> dict[str, Any]:
    """Pillars through two layers, the first of which returns ``[features | maximum]``."""
    cfg = pillar_config(width)
    cfg['voxel_encoder']['feat_channels'] = [2 * width, width]
    return cfg


def hard_vfe_and_fpn(width: int = 8) -> dict[str, Any]:
    """The other voxel encoder and neck of nuScenes' pillars."""
    cfg = pillar_config(width)
    encoder = dict(cfg['voxel_encoder'], type='HardVFE', feat_channels=[width, width], with_voxel_center=True)
    neck = dict(type='FPN', in_channels=[width, 2 * width], out_channels=2 * width, num_outs=2)
    return dict(cfg, voxel_encoder=encoder, neck=neck)


def second_of_two_heights(width: int = 8) -> dict[str, Any]:
    """Voxels half as high, so that two heights are left to be flattened."""
    cfg = second_config(width)
    cfg['voxel_layer']['voxel_size'][2] = 0.25
    cfg['middle_encoder']['sparse_shape'] = [17, 32, 32]
    cfg['backbone']['in_channels'] = 2 * width
    return cfg


def centerpoint_voxel(width: int = 8) -> dict[str, Any]:
    return centerpoint_config(width, sparse=True)


def channels_of(layer: nn.Module, output: Any) -> Tensor:
    """Output with its channels on axis 1; a sparse tensor's are (V, C)."""
    output = output if isinstance(output, Tensor) else output.features
    return output.movedim(-1, 1) if isinstance(layer, nn.Linear) else output


@contextmanager
def listening(model: nn.Module, widths: dict[str, int] | None = None) -> Iterator[Record]:
    """Record what every layer with weights returns; with ``widths``, after cutting it to that many channels."""
    record: Record = defaultdict(list)

    def hook(name: str) -> Callable:
        def keep(layer: nn.Module, _: Any, output: Any) -> None:
            value = channels_of(layer, output)
            if widths is not None:
                value[:, widths[name] :] = 0
                value = value[:, : widths[name]]
            record[name].append(value.clone())

        return keep

    layers = {
        name: m for name, m in model.named_modules() if next(m.parameters(recurse=False), None) is not None
    }
    handles = [layer.register_forward_hook(hook(name)) for name, layer in layers.items()]
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """With several threads, spconv lists the cells of a coarser grid in an order of its own every time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def compare(student: nn.Module, teacher: nn.Module, run: Callable[[nn.Module], Any]) -> Record:
    """Assert that the student's every activation is the truncated teacher's."""
    with torch.no_grad():
        with listening(student) as ours:
            run(student)
        with listening(teacher, {name: values[0].shape[1] for name, values in ours.items()}) as theirs:
            run(teacher)
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        for mine, other in zip(values, theirs[name], strict=True):
            # Sums over more channels, zeros most of them, are rounded in another order.
            assert torch.allclose(mine, other, rtol=1e-4, atol=1e-5), name
    return ours


def run_detector(model: nn.Module) -> None:
    adapter_for(model).infer(model, lidar_batch([0, 1]))


needs_spconv = pytest.mark.skipif(
    importlib.util.find_spec('spconv') is None, reason='spconv is not installed'
)


@pytest.mark.parametrize(
    'config',
    [
        pillar_config,
        two_layers,
        hard_vfe_and_fpn,
        centerpoint_config,
        pytest.param(second_of_two_heights, marks=needs_spconv),
        pytest.param(centerpoint_voxel, marks=needs_spconv),
    ],
    ids=lambda config: config.__name__,
)
def test_student_is_the_truncated_teacher(config: Callable) -> None:
    teacher, student = build(config(16)), build(config(8), seed=1)
    report = inherit_channels(student, teacher)
    assert not report.left
    record = compare(student, teacher, run_detector)
    assert all(values[0].abs().sum() > 0 for values in record.values())


def test_first_activations_of_an_untruncated_teacher_are_the_students() -> None:
    teacher, student = build(pillar_config(16)), build(pillar_config(8), seed=1)
    inherit_channels(student, teacher)
    coors = torch.tensor([[0, 0, 1, 2], [0, 0, 5, 7], [1, 0, 9, 3]])
    points, counts = torch.rand(3, 5, 4), torch.tensor([5, 2, 1])
    wide, narrow = (model.voxel_encoder(points.clone(), counts, coors) for model in (teacher, student))
    torch.testing.assert_close(wide[:, :8], narrow)


class SparseEncoder(nn.Module):
    """A dense stand-in for machines without spconv: two layers, then the height flattened as mmdet3d does."""

    def __init__(self, base: int, output_channels: int) -> None:
        super().__init__()
        self.output_channels = output_channels
        self.conv_input = nn.Sequential(nn.Conv3d(4, base, 3, padding=1), nn.BatchNorm3d(base), nn.ReLU())
        self.conv_out = nn.Conv3d(base, output_channels, (3, 1, 1), stride=(2, 1, 1))

    def forward(self, volume: Tensor) -> Tensor:
        """(B, 4, Z, H, W) -> (B, C * D, H, W)."""
        out = self.conv_out(self.conv_input(volume))
        b, c, d, h, w = out.shape
        return out.view(b, c * d, h, w)


class DenseVoxelNet(nn.Module):
    """Stand-in, mmdet3d's backbone and neck, and a head that tells what reaches it."""

    def __init__(self, width: int, heights: int) -> None:
        super().__init__()
        self.pts_middle_encoder = SparseEncoder(width, width)
        stages = [width, 2 * width]
        self.pts_backbone = build_backbone(
            dict(
                type='SECOND',
                in_channels=width * heights,
                out_channels=stages,
                layer_nums=[1, 1],
                layer_strides=[1, 2],
            )
        )
        self.pts_neck = build_neck(
            dict(type='SECONDFPN', in_channels=stages, out_channels=stages, upsample_strides=[1, 2])
        )

    def forward(self, volume: Tensor) -> Tensor:
        """(B, 4, Z, H, W) -> (B, C, H, W)."""
        return self.pts_neck(self.pts_backbone(self.pts_middle_encoder(volume)))[0]


@pytest.mark.parametrize('depth', [5, 7])
def test_flattened_heights_stay_with_their_channel(depth: int) -> None:
    torch.manual_seed(0)
    heights = (depth - 1) // 2
    teacher, student = DenseVoxelNet(8, heights).eval(), DenseVoxelNet(4, heights).eval()
    inherit_channels(student, teacher)
    volume = torch.randn(2, 4, depth, 6, 8)
    compare(student, teacher, lambda model: model(volume))


def test_equal_detectors_become_equal() -> None:
    """Pillar students differ by the size of their pillars alone: a full copy."""
    teacher, student = build(centerpoint_config(voxel=0.4)), build(centerpoint_config(voxel=0.8), seed=1)
    report = inherit_channels(student, teacher)
    assert not report.resized
    assert not report.left
    theirs = teacher.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in student.state_dict().items())


def test_what_does_not_fit_is_left_and_named() -> None:
    teacher, student = build(pillar_config(16)), build(pillar_config(8), seed=1)
    student.bbox_head.conv_cls = nn.Conv2d(16, 40, 1)
    student.bbox_head.conv_reg = nn.Conv2d(16, 42, 3)
    report = inherit_channels(student, teacher)
    assert report.left == [
        'bbox_head.conv_cls.weight',
        'bbox_head.conv_cls.bias',
        'bbox_head.conv_reg.weight',
    ]


def test_sparse_weights_have_their_channels_elsewhere() -> None:
    """spconv 2 keeps (out, z, y, x, in), mmcv (z, y, x, in, out)."""
    wide = torch.arange(8 * 27 * 6.0).view(8, 3, 3, 3, 6)
    layer = type('SubMConv3d', (nn.Module,), {'__module__': 'spconv.pytorch.conv'})()
    narrow = first_channels(wide, torch.zeros(4, 3, 3, 3, 3), layer, None, 'x')
    assert torch.equal(narrow, wide[:4, ..., :3])
    layer = type('SubMConv3d', (nn.Module,), {'__module__': 'mmcv.ops.sparse_conv'})()
    wide = wide.permute(1, 2, 3, 4, 0)
    narrow = first_channels(wide, torch.zeros(3, 3, 3, 3, 4), layer, None, 'x')
    assert torch.equal(narrow, wide[..., :3, :4])


def test_grouped_convolutions_are_refused() -> None:
    with pytest.raises(DistillError, match="'x' is a grouped convolution"):
        first_channels(
            torch.zeros(8, 4, 1, 1), torch.zeros(4, 2, 1, 1), nn.Conv2d(4, 4, 1, groups=2), None, 'x'
        )


def recipe(teacher: dict[str, Any], **arguments: Any) -> Config:
    distiller = dict(
        teacher=dict(config=dict(model=teacher), random_weights=True, view='same'),
        terms=[],
        initialize=[dict(type='TeacherGuidedInit', **arguments)],
    )
    return Config(dict(model=pillar_config(8), distiller=distiller))


def test_recipe_initialises_after_the_students_own_way(caplog: pytest.LogCaptureFixture) -> None:
    distiller = build_distiller(recipe(pillar_config(16)))
    with caplog.at_level('INFO', logger='focaldistiller'):
        distiller.init_weights()
    ours, theirs = (model.bbox_head.conv_cls.weight for model in (distiller.student, distiller.teacher.model))
    assert torch.equal(ours, theirs[:, [*range(8), *range(16, 24)]])
    assert '0 left as initialised' in caplog.text
    distiller.teacher.require_unchanged()


def test_another_source_than_the_teacher() -> None:
    torch.manual_seed(0)
    source = dict(config=dict(model=pillar_config(12)), random_weights=True)
    distiller = build_distiller(recipe(pillar_config(16), source=source))
    distiller.init_weights()
    theirs = distiller.teacher.model.voxel_encoder.pfn_layers[0].linear.weight[:8]
    assert not torch.equal(distiller.student.voxel_encoder.pfn_layers[0].linear.weight, theirs)

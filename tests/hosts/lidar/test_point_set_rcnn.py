"""PointRCNN says that it needs a GPU; everything around its point operators works here."""

import pytest
import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.distill.hosts.adapter import adapter_for
from projects.mmdet3d_plugin.distill.hosts.pointrcnn import PointRCNNAdapter
from projects.mmdet3d_plugin.distill.taps import Recorder

# features per point and millions of parameters, PointDistiller's table
STUDENTS = {'': (128, 4.1), '_2x': (91, 2.0), '_4x': (64, 1.0), '_8x': (45, 0.5), '_16x': (32, 0.3)}


@pytest.fixture(scope='module')
def model() -> nn.Module:
    """The 8x student."""
    return build_model(load_config('point_rcnn_kitti_8x.py').model)


def test_a_cpu_run_ends_with_one_sentence(model: nn.Module) -> None:
    with pytest.raises(UserError, match=r'PointRCNN needs a GPU.*furthest point sampling'):
        adapter_for(model).infer(model, dict(points=[torch.rand(16, 4)]))


@pytest.mark.parametrize('student', STUDENTS)
def test_students_have_the_papers_size(student: str) -> None:
    built = build_model(load_config(f'point_rcnn_kitti{student}.py').model)
    channels, millions = STUDENTS[student]
    assert PointRCNNAdapter().aliases(built)['points'][0].channels == channels
    assert sum(weight.numel() for weight in built.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)


class RecordedNeck(nn.Module):
    """Gives what the real neck gave on a GPU, in shape: (B, C, N) features of N points."""

    def __init__(self, neck: nn.Module, channels: int, points: int) -> None:
        super().__init__()
        self.FP_modules = neck.FP_modules
        self.features = nn.Parameter(torch.randn(2, channels, points))

    def forward(self, points: Tensor) -> dict[str, Tensor]:
        """(B, N, 4) -> features and places of N points."""
        return dict(fp_features=self.features, fp_xyz=points[..., :3].contiguous())


def test_points_and_heads_are_recorded_with_their_graph(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, 'neck', RecordedNeck(model.neck, 45, 300))
    monkeypatch.setattr(type(model), 'extract_feat', lambda self, points: self.neck(points))
    adapter = adapter_for(model)
    taps = [*adapter.taps(model, 'points'), *adapter.taps(model, 'heads')]
    with Recorder(model, taps) as recorder:
        adapter.infer(model, dict(points=list(torch.rand(2, 300, 4))))
    records = recorder.pop()
    points, (boxes, scores) = (tap.convert(records[tap.path]) for tap in taps)
    assert points.shape == (2, 45, 300)
    assert boxes.shape == (2, 300, 8)
    assert scores.shape == (2, 300, 3)
    points.square().mean().backward()
    assert model.neck.features.grad.abs().sum() > 0

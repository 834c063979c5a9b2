"""A detector nobody has heard of: with its class and its adapter alone it is counted, timed and drawn."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from mmdet.models import DETECTORS
from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.hosts.adapter import Batch, HostAdapter
from projects.mmdet3d_plugin.distill.registry import ADAPTERS
from projects.mmdet3d_plugin.distill.taps import Tap
from projects.mmdet3d_plugin.studies.cost import complexity, latency
from projects.mmdet3d_plugin.studies.pictures import visualize

STUDENT = Path('projects/configs/synthetic/bevformer_student.py').resolve()
CHANNELS, CELLS = 8, 6


class OneBoxHost(nn.Module):
    """Images (B, T, num_cams, 3, H, W) -> a BEV feature (B, 8, 6, 6) and one box per sample, a car at its peak."""

    def __init__(self, train_cfg: None = None, test_cfg: None = None) -> None:
        super().__init__()
        self.eyes = nn.Conv2d(3, CHANNELS, 3, stride=4, padding=1, bias=False)
        self.bev = nn.AdaptiveAvgPool2d(CELLS)
        self.score = nn.Conv2d(CHANNELS, 1, 1)

    def scores(self, img: Tensor) -> Tensor:
        """(B, 1, 6, 6)."""
        features = self.eyes(img[:, -1].flatten(0, 1)).unflatten(0, img.shape[:1] + img.shape[2:3])
        return self.score(self.bev(features.mean(1)))

    def forward(self, img: Tensor, img_metas: list, return_loss: bool = True, **_: Any) -> list[dict]:
        """Boxes in testing."""
        best = self.scores(img).flatten(1).argmax(1)
        x, y = (best % CELLS - 2.5) * 10, (best // CELLS - 2.5) * 10
        found = []
        for i, queue in enumerate(img_metas):
            box = torch.tensor([[x[i], y[i], 0, 4, 2, 1.5, 0, 0, 0]])
            boxes = queue[-1]['box_type_3d'](box, box_dim=9, origin=(0.5, 0.5, 0.5))
            found.append(dict(boxes_3d=boxes, scores_3d=torch.tensor([0.9]), labels_3d=torch.tensor([0])))
        return found


class OneBoxAdapter(HostAdapter):
    """Says what studies need to know; the rest stays as in the base class."""

    shape_only = ('eyes',)

    def infer(self, model: OneBoxHost, batch: Batch) -> Tensor:
        """(B, 1, 6, 6)."""
        return model.scores(batch['img'])

    def aliases(self, model: OneBoxHost) -> dict[str, list[Tap]]:
        """'bev' is (B, 8, 6, 6), row = y, column = x."""
        return {'bev': [Tap('bev', channels=CHANNELS)]}

    def cost_parts(self, model: OneBoxHost) -> dict[str, str]:
        """Two of the three modules compute."""
        return {'backbone': 'eyes', 'head': 'score'}


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    """A config of the host, which is registered for one test."""
    path = tmp_path / 'one_box.py'
    path.write_text(f"_base_ = ['{STUDENT}']\nmodel = dict(_delete_=True, type='OneBoxHost')\n")
    DETECTORS.register_module(module=OneBoxHost)
    ADAPTERS.register_module(module=OneBoxAdapter, name='OneBoxHost')
    yield path
    del DETECTORS.module_dict['OneBoxHost'], ADAPTERS.module_dict['OneBoxHost']


def test_its_cost_is_counted(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    complexity.main([str(config), '--json', str(tmp_path / 'cost.json'), '--measure-memory'])
    cost = json.loads((tmp_path / 'cost.json').read_text())
    height, width = cost['image_shape']
    assert cost['images'] == 6
    assert cost['parts']['backbone']['computed'] == 6 * (height // 4) * (width // 4) * 27 * CHANNELS
    assert cost['parts']['head']['computed'] == CHANNELS * CELLS**2
    assert cost['total']['parameters'] == 27 * CHANNELS + CHANNELS + 1
    assert cost['measured_peak_bytes'] > 0
    assert 'backbone' in capsys.readouterr().out


def test_its_frames_are_timed(config: Path, tmp_path: Path) -> None:
    options = ['--frames', '2', '--warmup', '0', '--device', 'cpu', '--json', str(tmp_path / 'ms.json')]
    latency.main([str(config), *options])
    (model,) = json.loads((tmp_path / 'ms.json').read_text())['models']
    assert model['frames'] == 2
    assert model['median_ms'] > 0


def test_its_boxes_and_its_feature_are_drawn(config: Path, tiny_nuscenes: Path, tmp_path: Path) -> None:
    weights = tmp_path / 'weights.pth'
    torch.save({'state_dict': OneBoxHost().state_dict(), 'meta': {}}, weights)
    out = tmp_path / 'out'
    command = [str(config), str(weights), '--data-root', str(tiny_nuscenes), '--out', str(out)]
    visualize.main([*command, '--samples', '1'])
    pictures = sorted(out.iterdir())
    assert [path.stem.split('_')[1] for path in pictures] == ['bev', 'cameras', 'heatmap', 'overview']
    assert all(cv2.imread(str(path)).std() > 5 for path in pictures)


def test_a_cloud_is_counted_and_timed_as_well(tmp_path: Path) -> None:
    """LiDAR detectors of mmdet3d pass through the same door."""
    small = ('--cfg-options', 'model.voxel_layer.max_voxels=(200,200)')
    complexity.main(['pointpillars_kitti_16x.py', '--json', str(tmp_path / 'cost.json'), *small])
    assert json.loads((tmp_path / 'cost.json').read_text())['total']['sparsekd'] > 0
    stream = latency.Stream('pointpillars_kitti_16x.py', torch.device('cpu'))
    assert min(stream.step() for _ in range(2)) > 0

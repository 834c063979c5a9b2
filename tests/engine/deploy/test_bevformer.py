"""BEVFormer as a graph in ONNX: beside torch over a scene, evaluated, and without this project."""

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmcv import Config

from projects.mmdet3d_plugin.common.checkpoint import write_checkpoint
from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.engine.build import build_split
from projects.mmdet3d_plugin.engine.deploy.export_onnx import export_onnx
from projects.mmdet3d_plugin.engine.deploy.onnx_session import require_package
from projects.mmdet3d_plugin.engine.test import evaluate_checkpoint
from projects.mmdet3d_plugin.hosts.bevformer.bev_geometry import all_pairs, pillar_points, visible_pairs
from projects.mmdet3d_plugin.hosts.bevformer.bevformer_encoder import CameraDeformableAttention
from tests.factories import IMAGE_SIZE, NUM_CAMS, PC_RANGE, ring_of_cameras

ROOT = Path(__file__).resolve().parents[3]


def test_all_pairs_add_up_to_what_the_visible_ones_do() -> None:
    """In float64, for a batch of two with cameras of their own."""
    torch.manual_seed(0)
    attention = CameraDeformableAttention(16, num_heads=2, num_levels=1, num_points=4).double()
    torch.nn.init.normal_(attention.sampling_offsets.weight)
    lidar2img = torch.stack([torch.from_numpy(ring_of_cameras(seed)) for seed in (0, 1)])
    size = torch.tensor([IMAGE_SIZE[::-1]], dtype=torch.float64).expand(2, NUM_CAMS, 2)
    points = pillar_points(5, 6, 4, PC_RANGE, torch.device('cpu')).double()
    query = torch.randn(2, 30, 16, dtype=torch.float64)
    value = torch.randn(2 * NUM_CAMS, 24, 16, dtype=torch.float64)
    pairs = [find(points, lidar2img, size) for find in (visible_pairs, all_pairs)]
    assert torch.equal(pairs[0].count, pairs[1].count)
    assert 0 < len(pairs[0].points) < 2 * NUM_CAMS * 30
    seen = [attention(query, value, [(4, 6)], found) for found in pairs]
    assert torch.allclose(*seen, atol=1e-12)


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(
        ValueError, match=r'onnxruntime is not installed: pip install -r requirements/onnx.txt'
    ):
        require_package('onnxruntime')


@pytest.fixture(scope='module')
def deployed(tiny_nuscenes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """The demo's student with random weights, as a checkpoint and beside it as a graph, on the made-up data."""
    pytest.importorskip('onnx', reason='onnx is an optional extra: requirements/onnx.txt')
    pytest.importorskip('onnxruntime', reason='onnxruntime is an optional extra: requirements/onnx.txt')
    cfg = load_config(ROOT / 'projects/configs/synthetic/bevformer_student.py', None, str(tiny_nuscenes))
    torch.manual_seed(0)
    model = build_model(cfg.model)
    model.init_weights()
    with torch.no_grad():  # scores that differ from box to box, and attention that depends on its query
        for name, parameter in model.named_parameters():
            if (
                'cls_branches' in name
                or 'sampling_offsets.weight' in name
                or 'attention_weights.weight' in name
            ):
                parameter.normal_(std=0.2)
    folder = tmp_path_factory.mktemp('deployed')
    write_checkpoint(folder / 'student.pth', dict(meta={}, state_dict=model.state_dict()))
    export_onnx(cfg, folder / 'student.pth', folder / 'student.onnx')
    return cfg, folder


def results_of(cfg: Config, checkpoint: Path) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Metrics and raw results of the validation split."""
    out = checkpoint.with_suffix('.pkl')
    metrics = evaluate_checkpoint(cfg, checkpoint, checkpoint.parent / 'out', out, quiet=True)
    return metrics, pickle.loads(out.read_bytes())


@pytest.mark.filterwarnings('ignore')
def test_the_graph_finds_what_torch_finds_over_a_whole_scene(deployed: tuple[Config, Path]) -> None:
    """Four frames of one scene, each of which remembers the one before; through all of evaluation."""
    cfg, folder = deployed
    wanted_metrics, wanted = results_of(cfg, folder / 'student.pth')
    got_metrics, got = results_of(cfg, folder / 'student.onnx')
    assert len(got) == len(wanted) == 4
    for ours, theirs in zip(got, wanted, strict=True):
        assert len(ours['scores_3d']) > 20
        assert torch.equal(ours['labels_3d'], theirs['labels_3d'])
        assert torch.allclose(ours['scores_3d'], theirs['scores_3d'], atol=1e-4)
        assert torch.allclose(ours['boxes_3d'].tensor, theirs['boxes_3d'].tensor, atol=1e-3)
    assert got_metrics == pytest.approx(wanted_metrics, abs=1e-4)


def test_the_script_of_the_page_runs_without_this_project(
    deployed: tuple[Config, Path], tmp_path: Path
) -> None:
    """In another folder and with no path to the project; it prints what torch finds in the scene's first frame."""
    cfg, folder = deployed
    (script,) = re.findall(
        r'^```python\n(.*?)^```$', (ROOT / 'docs/deploy.md').read_text(), re.MULTILINE | re.DOTALL
    )
    assert len([line for line in script.splitlines() if line.strip()]) <= 32
    (tmp_path / 'detect.py').write_text(script)
    frame = build_split(cfg, 'test', test_mode=True).get_frame(0)
    intrinsics = np.tile(np.eye(4), (NUM_CAMS, 1, 1))
    intrinsics[:, :3, :3] = frame['cam_intrinsic']
    meta = build_split(cfg, 'test', test_mode=True)[0]['img_metas'].data[0]
    content = dict(
        images=frame['img_filename'],
        lidar2img=(intrinsics @ np.linalg.inv(frame['cam2lidar'])).tolist(),
        can_bus=meta['can_bus'].tolist(),
    )
    (tmp_path / 'frame.json').write_text(json.dumps(content))
    extra = Path(sys.modules['onnxruntime'].__file__).parents[1]
    answer = subprocess.run(
        [sys.executable, 'detect.py', folder / 'student.onnx', 'frame.json'],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(extra)},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    found = [json.loads(line) for line in answer.stdout.splitlines()]
    _, wanted = results_of(cfg, folder / 'student.pth')
    scores = wanted[0]['scores_3d'].numpy()
    assert np.allclose([row[1] for row in found], scores, atol=1e-3)
    boxes = wanted[0]['boxes_3d']
    centres = boxes.gravity_center.numpy()
    assert np.allclose([row[2:5] for row in found], centres, atol=5e-3)
    assert found[0][0] == cfg.class_names[int(wanted[0]['labels_3d'][0])]

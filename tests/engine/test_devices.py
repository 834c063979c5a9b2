"""Every scaled-down config takes on a GPU the training step that it takes on the CPU, and detects what it detects there.

Where there is no GPU, a pretended device shows where code mixes devices.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from mmcv import Config
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.models import without_pretrained
from projects.mmdet3d_plugin.datasets.converters.nuscenes_converter import create_nuscenes_infos
from projects.mmdet3d_plugin.distill.recipe import build_training
from projects.mmdet3d_plugin.distill.views import named_teachers
from projects.mmdet3d_plugin.engine import inference
from projects.mmdet3d_plugin.engine.build import build_loader, build_split
from projects.mmdet3d_plugin.engine.launch import Launch, start
from projects.mmdet3d_plugin.engine.parallel import unpack_batch
from projects.mmdet3d_plugin.engine.train import make_detector
from projects.mmdet3d_plugin.worlds.create import create_world
from tests.conftest import made_once
from tests.engine.toy import ONE_PROCESS
from tests.pretend_device import pretended_device

WORLD = Path('projects/configs/synthetic')
# They read files of a detector's own labels, and are kitti_pointpillars_teacher.py and kitti_ia_ssd.py as far as a step goes;
# mmdet's own distillation reads a checkpoint.
FILES = ('kitti_sparse', 'kitti_ia_ssd_sparse', 'coco_gfl_ld')
CONFIGS = [path for path in sorted(WORLD.glob('*.py')) if not path.stem.startswith(FILES)]
DETECTORS = [path for path in CONFIGS if 'distiller' not in path.read_text() and '_distill_' not in path.stem]
TOGETHER = (
    'bevdepth_near_distill_fd3d',
    'coco_distill_fd3d',
    'coco_distill_fgd',
    'coco_distill_pkd',
    'cross_near_distill_bevdepth_keypoints',
    'cross_near_distill_both',
    'cross_near_distill_labels',
    'cross_near_distill_lidarformer_fd3d',
    'cross_near_distill_queries',
    'cross_near_distill_two_stage',
    'detr3d_distill_fd3d',
    'distill_fd3d',
    'distill_heatmap',
    'distill_near_fd3d',
    'kitti_distill_cross_stage',
    'kitti_distill_pointdistiller',
    'kitti_distill_sparsekd_label_tgi',
    'kitti_ia_ssd',
    'kitti_self_all',
    'kitti_self_temperature',
    'kitti_two_stage_centerpoint',
)
"""Configs that together have every loss, region, target, head and host, if not every source of instances: enough where no
GPU is.

Those with sparse convolutions are tried on a GPU only: spconv looks at memory, of which a pretended device has none.
"""

ONE_OF_A_HOST = (
    'bevdepth_near_student',
    'bevformer_near_student',
    'centerpoint_near_teacher',
    'coco_gfl_student',
    'detr3d_student',
    'kitti_ia_ssd',
    'kitti_pointpillars_student_4x',
    'kitti_two_stage_centerpoint',
    'lidarformer_near_teacher',
)

CUDA = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')]
STEPS = [('pretended', WORLD / f'{name}.py') for name in TOGETHER]
STEPS += [pytest.param('cuda', path, marks=CUDA) for path in CONFIGS]
DETECTIONS = [('pretended', WORLD / f'{name}.py') for name in ONE_OF_A_HOST]
DETECTIONS += [pytest.param('cuda', path, marks=CUDA) for path in DETECTORS]


def called(part: object) -> str:
    return part.stem if isinstance(part, Path) else str(part)


class Place(NamedTuple):
    """A device as the engine knows it, and what brings a loader's batch there."""

    launch: Launch
    unpack: Callable[[dict[str, Any]], dict[str, Any]]


@contextmanager
def computing_at(name: str) -> Iterator[Place]:
    """The CPU, a GPU that computes in float32 as the CPU does, or the pretended device."""
    if name == 'cpu':
        yield Place(ONE_PROCESS, lambda batch: unpack_batch(batch, ONE_PROCESS))
    elif name == 'pretended':
        with pretended_device() as device:
            launch = replace(ONE_PROCESS, device=device)
            yield Place(launch, lambda batch: send(unpack_batch(batch, ONE_PROCESS), device))
    else:
        launch = start('none', 'cuda')
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # products have it off anyway
            yield Place(launch, lambda batch: unpack_batch(batch, launch))


def send(part: Any, device: torch.device) -> Any:
    """A batch with all its tensors and boxes on a device."""
    if isinstance(part, dict):
        return {key: send(value, device) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return type(part)(send(value, device) for value in part)
    return part.to(device) if isinstance(part, Tensor) or hasattr(part, 'tensor') else part


@pytest.fixture(scope='session')
def synthetic_nuscenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic world of five scenes of three frames, with images and LiDAR. Nothing may write into it."""

    def make(root: Path) -> None:
        create_world(root, 5, 3, (320, 180), frames=3, progress=False, workers=1, reach=18.0, pace=0.5)
        create_nuscenes_infos(root, 'v1.0-trainval', progress=False)

    return made_once(tmp_path_factory, 'synthetic_nuscenes', make)


@pytest.fixture
def cfg(request: pytest.FixtureRequest) -> Config:
    """The config ``path`` on a world that it is about, with teachers that need no files."""
    path = request.node.callspec.params['path']
    world = {'kitti': 'synthetic_kitti', 'coco': 'coco_world'}.get(
        path.stem.split('_')[0], 'synthetic_nuscenes'
    )
    options = {'data.workers_per_gpu': 0, 'data.samples_per_gpu': 2}
    cfg = load_config(str(path), options, request.getfixturevalue(world))
    cfg.model = without_pretrained(cfg.model)
    cfg.model.get('img_backbone', {}).pop('cache_dir', None)
    if recipe := cfg.get('distiller'):
        sources = [part.source for part in recipe.get('initialize', []) if 'source' in part]
        for source in (*named_teachers(recipe.teacher).values(), *sources):
            source.pop('cache_dir', None)
            if source.pop('checkpoint', None):
                source.random_weights = True
            if 'config' in source:
                source.config = load_config(source.config)._cfg_dict
                source.config.model.get('img_backbone', {}).pop('cache_dir', None)
                let_few_pass(source.config.model)
    return cfg


def let_few_pass(settings: Any) -> None:
    """Take thresholds of scores away, since random weights are sure of nothing, and let suppression see few boxes."""
    for key, value in settings.items() if isinstance(settings, dict) else enumerate(settings):
        if key in ('score_thr', 'score_threshold'):
            settings[key] = 0.0
        elif key in ('pre_max_size', 'nms_pre'):
            settings[key] = 50
        elif isinstance(value, dict | list):
            let_few_pass(value)


def build(cfg: Config) -> tuple[nn.Module, Config]:
    """A model, the same whenever it is built, that draws nothing at random in its dropout."""
    torch.manual_seed(0)
    model, cfg = build_training(cfg) if cfg.get('distiller') else (make_detector(cfg), cfg)
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    return model, cfg


def step(cfg: Config, batch: dict[str, Any], place: str, seed: int) -> tuple[dict[str, float], set[str]]:
    """What the log would say of a step at a place, and the names of the weights that get finite gradients from it."""
    model, _ = build(cfg)
    with computing_at(place) as (launch, unpack):
        model.to(launch.device).train()
        torch.manual_seed(seed)
        out = model.train_step(unpack(batch), None)
        out['loss'].backward()
        learning = {
            name
            for name, p in model.named_parameters()
            if p.grad is not None and bool(p.grad.isfinite().all())
        }
    return dict(out['log_vars']), learning


@pytest.mark.parametrize(('place', 'path'), STEPS, ids=called)
def test_a_step_elsewhere_is_the_step_on_the_cpu(path: Path, place: str, cfg: Config) -> None:
    _, seen = build(cfg)
    batch = next(iter(build_loader(seen, build_split(seen, 'train', test_mode=False), True, ONE_PROCESS)))
    reference, learning = step(cfg, batch, 'cpu', 0)
    # a GPU draws other random numbers
    other = reference if place == 'pretended' else step(cfg, batch, 'cpu', 1)[0]
    losses, learning_there = step(cfg, batch, place, 0)
    assert losses.keys() == reference.keys()
    assert learning_there == learning
    fixed = [name for name, value in reference.items() if value == pytest.approx(other[name], rel=1e-6)]
    assert fixed
    wanted = {name: reference[name] for name in fixed}
    assert {name: losses[name] for name in fixed} == pytest.approx(wanted, rel=1e-3, abs=1e-5)


def highest_scores(result: Any) -> Tensor:
    """The twenty highest scores of a frame's detections."""
    if isinstance(result, dict):
        scores = result.get('pts_bbox', result)['scores_3d']
    else:  # of a 2D detector, by class
        scores = torch.cat([torch.as_tensor(boxes)[:, 4] for boxes in result])
    return scores.sort(descending=True).values[:20]


@pytest.mark.parametrize(('place', 'path'), DETECTIONS, ids=called)
def test_a_detector_elsewhere_sees_what_it_sees_on_the_cpu(
    path: Path, place: str, cfg: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_few_pass(cfg.model)
    dataset, found = build_split(cfg, 'val', test_mode=True), []
    for name in ('cpu', place):
        model, _ = build(cfg)
        with computing_at(name) as (launch, unpack):
            monkeypatch.setattr(inference, 'unpack_batch', lambda batch, _, unpack=unpack: unpack(batch))
            model.to(launch.device)
            results = inference.run_inference(model, build_loader(cfg, dataset, False, launch), launch)
            found.append([highest_scores(result) for result in results])
    assert any(len(scores) for scores in found[0])
    for reference, scores in zip(*found, strict=True):
        # the last bit of a score may make another query's place a proposal
        torch.testing.assert_close(scores, reference, rtol=0.02, atol=1e-5)

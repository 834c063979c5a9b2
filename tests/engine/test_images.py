"""Every tool on a 2D detector, with images so small that it takes seconds."""

import json
from pathlib import Path

import cv2
import pytest
import torch
from mmcv import Config

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.engine.build import build_loader, build_split
from projects.mmdet3d_plugin.engine.distill import distill
from projects.mmdet3d_plugin.engine.export import export_student
from projects.mmdet3d_plugin.engine.inference import run_inference
from projects.mmdet3d_plugin.engine.test import evaluate_checkpoint
from projects.mmdet3d_plugin.engine.train import TrainOptions, train
from projects.mmdet3d_plugin.studies.pictures import visualize, visualize_distill
from tests.engine.toy import ONE_PROCESS

SMALL = {
    'data.samples_per_gpu': 6,
    'runner.max_epochs': 2,
    'model.backbone.base_channels': 4,
    'model.neck.in_channels': [4, 8, 16, 32],
    'model.bbox_head.stacked_convs': 1,
    'log_config.interval': 1,
    'evaluation.interval': 2,
}
ONE_LEVEL = {
    'distiller.terms.foreground.on': 'neck.fpn_convs.0.conv',
    'distiller.terms.background.on': 'neck.fpn_convs.4.conv',
}
TEACHER = 'projects/configs/synthetic/coco_gfl_teacher.py'


def small(name: str, world: Path, **changes: object) -> Config:
    return load_config(f'projects/configs/synthetic/{name}.py', {**SMALL, **changes}, world)


@pytest.fixture(scope='module')
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The teacher of the recipes with initial weights."""
    torch.manual_seed(0)
    model = build_model(load_config(TEACHER).model)
    model.init_weights()
    path = tmp_path_factory.mktemp('teacher') / 'teacher.pth'
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, path)
    return path


@pytest.fixture(scope='module')
def run(coco_world: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished distillation."""
    folder = tmp_path_factory.mktemp('run')
    taught = {**ONE_LEVEL, 'distiller.teacher.checkpoint': str(teacher), 'evaluation.save_best': 'mAP'}
    cfg = small('coco_distill_fgd', coco_world, **taught)
    distill(cfg, TrainOptions(work_dir=folder), ONE_PROCESS)
    return folder


def test_a_recipe_is_distilled_evaluated_and_exported(run: Path, coco_world: Path, tmp_path: Path) -> None:
    rows = [json.loads(row) for row in next(run.glob('*.log.json')).read_text().splitlines()]
    assert [row['epoch'] for row in rows if row.get('mode') == 'train'] == [1, 1, 2, 2]
    assert 'mAP_50' in rows[-1]
    assert (run / 'best_mAP.pth').is_file()
    export_student(run / 'latest.pth', tmp_path / 'student.pth')
    cfg = small('coco_gfl_student', coco_world)
    plain = build_model(cfg.model)
    plain.load_state_dict(torch.load(tmp_path / 'student.pth')['state_dict'])
    metrics = evaluate_checkpoint(cfg, tmp_path / 'student.pth', out_dir=tmp_path / 'eval')
    assert metrics['mAP'] == pytest.approx(rows[-1]['mAP'])
    assert {'metrics.json', 'results.bbox.json'} <= {path.name for path in (tmp_path / 'eval').iterdir()}


def test_a_resumed_run_equals_a_straight_one(
    run: Path, coco_world: Path, teacher: Path, tmp_path: Path
) -> None:
    cfg = small('coco_distill_fgd', coco_world, **ONE_LEVEL, **{'distiller.teacher.checkpoint': str(teacher)})
    options = TrainOptions(work_dir=tmp_path, resume=run / 'epoch_1.pth', validate=False)
    distill(cfg, options, ONE_PROCESS)
    straight, resumed = (torch.load(f / 'epoch_2.pth')['state_dict'] for f in (run, tmp_path))
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[key]) for key, value in straight.items())


def test_boxes_areas_and_features_are_drawn(
    run: Path, coco_world: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options = [
        '--cfg-options',
        *(f'{k}={v}' for k, v in (SMALL | ONE_LEVEL).items()),
        f'distiller.teacher.checkpoint={teacher}',
    ]
    options = [option.replace(' ', '') for option in options]
    common = ['--data-root', str(coco_world), '--samples', '1']
    recipe = 'projects/configs/synthetic/coco_distill_fgd.py'
    arguments = [recipe, str(run / 'latest.pth'), '--out', str(tmp_path), *common, *options]
    visualize.main([*arguments, '--score-thr', '0.0', '--split', 'train'])
    visualize_distill.main(arguments)
    names = {path.name for path in tmp_path.glob('*.jpg')}
    assert {'00006_boxes.jpg', '00003_foreground_region.jpg', '00003_background.jpg'} <= names
    assert all(cv2.imread(str(tmp_path / name)).std() > 5 for name in names)
    with pytest.raises(SystemExit, match='--kinds are of 3D detectors'):
        visualize.main([*arguments, '--kinds', 'bev'])


def test_lds_own_detector_is_trained(coco_world: Path, teacher: Path, tmp_path: Path) -> None:
    cfg = small('coco_gfl_ld', coco_world, **{'model.teacher_ckpt': str(teacher), 'runner.max_epochs': 1})
    train(cfg, TrainOptions(work_dir=tmp_path, validate=False), ONE_PROCESS)
    row = json.loads(next(tmp_path.glob('*.log.json')).read_text().splitlines()[-1])
    assert row['loss_ld'] > 0
    assert not any('teacher' in key for key in torch.load(tmp_path / 'latest.pth')['state_dict'])


def test_boxes_come_back_in_pixels_of_the_original_image(coco_world: Path) -> None:
    """Testing at half the size must find the same objects as large as they are in the annotations."""
    cfg = small('coco_gfl_student', coco_world)
    cfg.data.test.pipeline[1].img_scale = (48, 32)
    cfg.model.test_cfg.score_thr = 0.0
    torch.manual_seed(0)
    model = build_model(cfg.model)
    model.init_weights()

    loader = build_loader(cfg, build_split(cfg, 'test', True), False, ONE_PROCESS)
    results = run_inference(model, loader, ONE_PROCESS)
    right = max(boxes[:, 2].max() for result in results for boxes in result if len(boxes))
    assert 48 < right <= 96
    torch.nn.init.constant_(model.bbox_head.gfl_cls.bias, torch.nan)
    with pytest.raises(UserError, match=r'GFLHead predicts what is not finite for sample .*\.jpg'):
        run_inference(model, loader, ONE_PROCESS)
    assert not any('forward' in vars(module) for module in model.modules())


def test_another_view_of_the_teacher_is_refused(coco_world: Path, teacher: Path, tmp_path: Path) -> None:
    settings = {'distiller.teacher.checkpoint': str(teacher), 'distiller.teacher.view': 'native'}
    with pytest.raises(DistillError, match="or view='same' on the teacher"):
        distill(
            small('coco_distill_cwd', coco_world, **settings), TrainOptions(work_dir=tmp_path), ONE_PROCESS
        )

"""Wrong arguments of the tools that look at models, in forks: each is one line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv import Config

from projects.mmdet3d_plugin.command_line.parsers import parse_demo
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.engine.launch import Launch
from projects.mmdet3d_plugin.studies import demo
from projects.mmdet3d_plugin.studies.cost import complexity, latency
from projects.mmdet3d_plugin.studies.pictures import visualize
from projects.mmdet3d_plugin.studies.pictures.visualize import load_detector
from projects.mmdet3d_plugin.worlds import create
from projects.mmdet3d_plugin.worlds.worlds import STAMP
from tests.robustness.conftest import save
from tests.robustness.forked import assert_one_line, run
from tools.benchmark.measure import kd_gain
from tools.benchmark.measure.kd_gain import options_of
from tools.benchmark.options import parse_kd_gain


@pytest.fixture
def config(pillars: Config, tmp_path: Path) -> Path:
    """The LiDAR config as a file."""
    return save(pillars, tmp_path / 'config.py')


@pytest.mark.parametrize(
    ('options', 'named'),
    [
        (('--frames', 0), r'--frames is 0: it must be a whole number of at least 1'),
        (('--warmup', -1), r'--warmup is -1'),
        (('--json', '.'), 'is a folder: name a file in it'),
    ],
)
def test_latency(config: Path, options: tuple[object, ...], named: str) -> None:
    assert_one_line(run(latency.main, config, '--device', 'cpu', *options), named)


@pytest.mark.parametrize('value', [np.nan, None])
def test_clouds_to_count_with(config: Path, tmp_path: Path, value: float | None) -> None:
    np.full((0 if value is None else 9, 4), value, np.float32).tofile(tmp_path / 'cloud.bin')
    assert_one_line(
        run(complexity.main, config, '--points', tmp_path / 'cloud.bin'), r'cloud\.bin holds no points'
    )


def test_a_camera_detector_is_not_counted_with_points(camera: Config, tmp_path: Path) -> None:
    config = save(camera, tmp_path / 'config.py')
    assert_one_line(
        run(complexity.main, config, '--points', 'x.bin'), r'--points x\.bin: .* looks at no points'
    )


@pytest.mark.parametrize('value', [2, 'nan', -0.1])
def test_scores_that_no_box_has(config: Path, tmp_path: Path, value: object) -> None:
    options = ('--out', tmp_path / 'out', f'--score-thr={value}')
    assert_one_line(
        run(visualize.main, config, *options), r'--score-thr is .*: it must be a number from 0 to 1'
    )


def test_weights_that_do_not_fit_are_named(camera: Config, camera_checkpoint: Path) -> None:
    camera = Config(dict(model={**camera.model, 'img_backbone': {**camera.model.img_backbone, 'depth': 34}}))
    with pytest.raises(
        UserError, match=r'epoch_1\.pth does not fit the BEVFormer of the config: \d+ missing'
    ):
        load_detector(camera, str(camera_checkpoint), None, Launch(0, 1, torch.device('cpu'), False))


@pytest.mark.parametrize(
    'options',
    [
        ('--world-seed=-1',), ('--max-minutes=nan',), ('--max-minutes=0',), ('--world=/nowhere',), ('--teacher=nowhere.pth',),
    ],
)  # fmt: skip
def test_a_study_of_what_distillation_gains(options: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=options[0].partition('=')[0]):
        options_of(parse_kd_gain(options))


@pytest.mark.parametrize(
    ('override', 'named'),
    [
        ('runner.max_epoch=1', "runner has no 'max_epoch'"),
        ('optimizer.lr=-1', r'optimizer\.lr is -1: it must be a number above 0'),
        ('lr_config.policy=cosin', "there is no 'cosin'"),
    ],
)
def test_a_study_refuses_overrides_before_its_first_stage(override: str, named: str, tmp_path: Path) -> None:
    options = ('--rows', 'heatmap', '--out', str(tmp_path / 'gain'), '--cfg-options', override)
    assert_one_line(run(kd_gain.main, *options), named)
    assert not (tmp_path / 'gain').exists()


def test_an_override_without_a_value_is_no_override(capsys: pytest.CaptureFixture[str]) -> None:
    for parse in (parse_kd_gain, parse_demo):
        with pytest.raises(SystemExit):
            parse(['--cfg-options', 'seed'])
        assert 'argument --cfg-options: seed: say KEY=VALUE' in capsys.readouterr().err


@pytest.mark.parametrize(
    'option', ['--seeds=a', '--seeds=-1', '--scenes=0', '--epochs=0', '--size=10', '--frames=-2']
)
def test_words_that_say_nothing(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_kd_gain([option])
    assert f'argument {option.partition("=")[0]}: ' in capsys.readouterr().err
    assert '_numbers' not in capsys.readouterr().err


@pytest.mark.parametrize(
    ('options', 'named'),
    [
        (('--scenes', 1), '--scenes is 1: ask for at least 2'),
        (('--seed', -1), '--seed is -1'),
        (('--frames', 0), '--frames is 0'),
        (('--size', '10x10'), 'images of 10x10 cannot be made'),
        (('--cfg-options', 'runner.max_epoch=1'), "runner has no 'max_epoch'"),
    ],
)
def test_the_demo_refuses_before_its_first_stage(
    options: tuple[object, ...], named: str, tmp_path: Path
) -> None:
    assert_one_line(run(demo.main, '--out', tmp_path / 'demo', *options), named)
    assert not (tmp_path / 'demo').exists()


def test_a_world_whose_stamp_is_damaged_is_named(tmp_path: Path) -> None:
    (tmp_path / STAMP).write_text('{"scenes":')
    assert_one_line(run(create.main, '--scenes', 2, '--out', tmp_path), rf'{STAMP} is damaged')

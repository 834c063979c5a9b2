"""Evaluating checkpoints."""

import json
import pickle
from pathlib import Path

import pytest

from projects.mmdet3d_plugin.common.checkpoint import read_checkpoint, write_checkpoint
from projects.mmdet3d_plugin.common.config import config_text
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.engine.export import export_student
from projects.mmdet3d_plugin.engine.export import main as export_main
from projects.mmdet3d_plugin.engine.test import evaluate_checkpoint, main
from projects.mmdet3d_plugin.engine.train import TrainOptions, train
from tests.engine.toy import ONE_PROCESS, ToyDataset, toy_config


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a short run, with its config."""
    folder = tmp_path_factory.mktemp('trained')
    cfg = toy_config(folder, 1, evaluation=dict(interval=1))
    train(cfg, TrainOptions(), ONE_PROCESS)
    (folder / 'toy.py').write_text(config_text(cfg))
    return folder


def test_evaluation_gives_what_training_saw(trained: Path, tmp_path: Path) -> None:
    metrics = evaluate_checkpoint(toy_config(trained), trained / 'epoch_1.pth', out_dir=tmp_path)
    log = [json.loads(line) for line in next(trained.glob('*.log.json')).read_text().splitlines()]
    assert metrics['NDS'] == pytest.approx(log[-1]['NDS'], abs=1e-5)
    assert json.loads((tmp_path / 'metrics.json').read_text()) == metrics


def test_two_evaluations_in_a_row_are_equal(trained: Path, tmp_path: Path) -> None:
    cfg = toy_config(trained)
    first = evaluate_checkpoint(cfg, trained / 'epoch_1.pth', out_dir=tmp_path, quiet=True)
    again = evaluate_checkpoint(cfg, trained / 'epoch_1.pth', out_dir=tmp_path, quiet=True)
    assert first == again  # 'frames' among them counts what the temporal memory saw
    assert first['frames'] == 1 + 2 * 2 + 3 * 3 + 4 + 2 * 5 + 3 * 6 + 7


def test_command_line(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = [str(trained / 'toy.py'), str(trained / 'epoch_1.pth'), '--device', 'cpu']
    main([*arguments, '--eval', 'bbox', '--out', str(tmp_path / 'raw.pkl'), '--out-dir', str(tmp_path)])
    assert '50.00' in capsys.readouterr().out  # mAP in points
    assert len(pickle.loads((tmp_path / 'raw.pkl').read_bytes())) == 7
    with pytest.raises(SystemExit):
        main(arguments)
    assert 'say what to do with the results' in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r'error: there is no checkpoint nowhere\.pth'):
        main([arguments[0], 'nowhere.pth', '--eval', 'bbox'])


def test_where_results_go_is_tried_before_anything_is_read(trained: Path, tmp_path: Path) -> None:
    """A checkpoint that is not there stands for everything that takes time."""
    (tmp_path / 'file').write_text('')
    for place, said in (
        (dict(out=tmp_path), 'is a folder: name a file in it'),
        (dict(out=tmp_path / 'file/raw.pkl'), 'cannot be written'),
        (dict(out_dir=tmp_path / 'file'), 'cannot be written'),
    ):
        with pytest.raises(UserError, match=said):
            evaluate_checkpoint(toy_config(trained), tmp_path / 'nowhere.pth', **place)


def test_other_classes_are_refused(trained: Path, tmp_path: Path) -> None:
    content = read_checkpoint(trained / 'epoch_1.pth')
    content['meta']['CLASSES'] = ['truck', 'car']
    write_checkpoint(tmp_path / 'swapped.pth', content)
    with pytest.raises(UserError, match=r"was trained for classes \['truck', 'car'\], the dataset has"):
        evaluate_checkpoint(toy_config(trained), tmp_path / 'swapped.pth')


def test_a_checkpoint_that_does_not_fit_is_refused(trained: Path) -> None:
    with pytest.raises(UserError, match='does not fit the ToyDetector of the config'):
        evaluate_checkpoint(toy_config(trained, **{'model.width': 6}), trained / 'epoch_1.pth')


def test_an_exported_student_scores_the_same_and_is_smaller(trained: Path, tmp_path: Path) -> None:
    content = read_checkpoint(trained / 'epoch_1.pth')
    content['state_dict']['distill.connector.weight'] = content['state_dict']['pts_bbox_head.bias'].clone()
    write_checkpoint(tmp_path / 'full.pth', content)
    notices = export_student(tmp_path / 'full.pth', tmp_path / 'student.pth')
    assert any('distill.connector' in notice for notice in notices)
    student = read_checkpoint(tmp_path / 'student.pth')
    assert set(student) == {'meta', 'state_dict'}
    assert not any(key.startswith('distill.') for key in student['state_dict'])
    assert student['meta']['CLASSES'] == ['car', 'truck']
    cfg = toy_config(trained)
    one = evaluate_checkpoint(cfg, trained / 'epoch_1.pth', out_dir=tmp_path, quiet=True)
    assert one == evaluate_checkpoint(cfg, tmp_path / 'student.pth', out_dir=tmp_path, quiet=True)


def test_export_does_not_overwrite_unasked(trained: Path, tmp_path: Path) -> None:
    target = str(tmp_path / 'student.pth')
    export_main([str(trained / 'epoch_1.pth'), target])
    with pytest.raises(SystemExit, match='exists: choose another name or say --force'):
        export_main([str(trained / 'epoch_1.pth'), target])
    export_main([str(trained / 'epoch_1.pth'), target, '--force'])


def test_what_a_server_takes_is_written_without_labels(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    arguments = [
        str(trained / 'toy.py'),
        str(trained / 'epoch_1.pth'),
        '--device',
        'cpu',
        '--out-dir',
        str(tmp_path),
    ]
    with pytest.raises(SystemExit):
        main([*arguments, '--format-only'])
    assert 'ToyDataset has no format' in capsys.readouterr().err

    def write(_: ToyDataset, results: list, out_dir: str) -> str:
        (Path(out_dir) / 'server.txt').write_text(str(len(results)))
        return out_dir

    monkeypatch.setattr(ToyDataset, 'format_results', write, raising=False)
    main([*arguments, '--format-only'])
    assert (tmp_path / 'server.txt').read_text() == '7'
    assert not (tmp_path / 'metrics.json').exists()
    (tmp_path / 'server.txt').unlink()
    monkeypatch.setattr(ToyDataset, 'has_labels', False, raising=False)
    main([*arguments, '--eval', 'bbox'])  # a test split: no scores, and no error either
    assert (tmp_path / 'server.txt').read_text() == '7'
    assert not (tmp_path / 'metrics.json').exists()

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from projects.mmdet3d_plugin.command_line.parsers import parse_size
from projects.mmdet3d_plugin.worlds import create
from projects.mmdet3d_plugin.worlds.catalog import NUSCENES
from projects.mmdet3d_plugin.worlds.create import (
    WorldError,
    create_world,
    main,
    scene_names,
)

SMALL = dict(size=(64, 64), frames=2, progress=False)


def _digests(root: Path) -> dict[str, str]:
    """Digest of every file below a folder."""
    files = sorted(path for path in root.rglob('*') if path.is_file())
    return {str(path.relative_to(root)): hashlib.md5(path.read_bytes()).hexdigest() for path in files}


def test_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    for workers in (1, 2):
        create_world(tmp_path / str(workers), 3, 4, workers=workers, **SMALL)
    alone, together = _digests(tmp_path / '1'), _digests(tmp_path / '2')
    assert alone == together
    assert len(alone) == 13 + 3 + 3 * 2 * 7 + 1  # tables, maps, images and sweeps, the stamp


def test_another_seed_gives_another_world(tmp_path: Path) -> None:
    for seed in (0, 1):
        create_world(tmp_path / str(seed), 1, seed, workers=1, **SMALL)
    first, second = _digests(tmp_path / '0'), _digests(tmp_path / '1')
    assert first['v1.0-trainval/sample_annotation.json'] != second['v1.0-trainval/sample_annotation.json']


def test_a_scene_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    for count in (2, 3):
        create_world(tmp_path / str(count), count, 0, workers=1, **SMALL)
    few, many = (_digests(tmp_path / str(count) / 'samples') for count in (2, 3))
    assert few.items() <= many.items()


def test_an_interrupted_world_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def make_until_second(root: Path, spec: create.WorldSpec, name: str) -> dict:
        if len(made) == 1:
            raise KeyboardInterrupt
        made.append(name)
        return make_scene(root, spec, name)

    make_scene = create.make_scene
    with monkeypatch.context() as patch:
        patch.setattr(create, 'make_scene', make_until_second)
        with pytest.raises(KeyboardInterrupt):
            create_world(tmp_path / 'a', 3, 0, workers=1, **SMALL)
    assert not (tmp_path / 'a/v1.0-trainval').exists()
    with monkeypatch.context() as patch:
        again = []
        patch.setattr(
            create, 'make_scene', lambda root, spec, name: again.append(name) or make_scene(root, spec, name)
        )
        assert create_world(tmp_path / 'a', 3, 0, workers=1, **SMALL)
    assert len(again) == 2
    assert made[0] not in again
    create_world(tmp_path / 'b', 3, 0, workers=1, **SMALL)
    assert _digests(tmp_path / 'a') == _digests(tmp_path / 'b')


def test_a_finished_world_is_left_alone_or_replaced_by_force(tmp_path: Path) -> None:
    assert create_world(tmp_path, 1, 0, workers=1, **SMALL)
    image = next(tmp_path.glob('samples/CAM_FRONT/*.jpg'))
    image.write_bytes(b'')
    assert not create_world(tmp_path, 1, 0, workers=1, **SMALL)
    assert image.stat().st_size == 0
    with pytest.raises(WorldError, match=r'seed 0 \(asked: 1\).*--force'):
        create_world(tmp_path, 1, 1, workers=1, **SMALL)
    infos = tmp_path / 'nuscenes_infos_temporal_train.pkl'
    infos.touch()
    assert create_world(tmp_path, 1, 1, workers=1, force=True, **SMALL)
    assert not infos.exists()
    assert not image.exists()
    assert json.loads((tmp_path / create.STAMP).read_text())['seed'] == 1


def test_objects_within_reach_are_an_option_that_older_worlds_need_not_know(tmp_path: Path) -> None:
    assert create_world(tmp_path, 1, 0, workers=1, **SMALL)
    assert 'reach' not in json.loads((tmp_path / create.STAMP).read_text())
    with pytest.raises(WorldError, match=r'reach None \(asked: 15'):
        create_world(tmp_path, 1, 0, workers=1, reach=15.0, **SMALL)
    assert create_world(tmp_path, 1, 0, workers=1, reach=15.0, force=True, **SMALL)
    with pytest.raises(WorldError, match=r'reach 15.0 \(asked: None'):
        create_world(tmp_path, 1, 0, workers=1, **SMALL)


def test_the_pace_changes_how_fast_things_move_and_nothing_else() -> None:
    slow = NUSCENES.at_pace(0.5)
    for usual, half in zip(NUSCENES.classes, slow.classes, strict=True):
        assert half == replace(usual, speed=(usual.speed[0] / 2, usual.speed[1] / 2))


def test_somebody_elses_data_is_never_touched(tmp_path: Path) -> None:
    precious = tmp_path / 'samples' / 'real.jpg'
    precious.parent.mkdir()
    precious.touch()
    for force in (False, True):
        with pytest.raises(WorldError, match='did not make'):
            create_world(tmp_path, 1, 0, workers=1, force=force, **SMALL)
    assert precious.exists()


def test_scene_names_come_from_the_official_splits() -> None:
    from nuscenes.utils.splits import train, val

    assert scene_names(10) == train[:8] + val[:2]
    assert scene_names(2) == [train[0], val[0]]
    assert scene_names(1) == [train[0]]
    with pytest.raises(WorldError, match='at most 752'):
        scene_names(753)
    assert len(set(scene_names(752))) == 752


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--scenes', '0'], '--scenes is 0'),
        (['--scenes', '900'], 'at most 752'),
        (['--scenes', '1', '--size', '8x8'], 'each side must be 64 to 4096'),
        (['--scenes', '1', '--frames', '0'], '--frames is 0'),
        (['--scenes', '1', '--sweeps', '10'], '--sweeps is 10'),
        (['--scenes', '1', '--reach', '5'], '--reach is 5: ask for 12 to 60 metres'),
        (['--scenes', '1', '--reach', 'nan'], '--reach is nan'),
        (['--scenes', '1', '--pace', '9'], '--pace is 9: ask for 0.1 to 2 times the usual speed'),
        (['--scenes', '1', '--seed', '-1'], '--seed is -1'),
        (['--scenes', '1', '--workers', '0'], '--workers is 0'),
    ],
)
def test_a_bad_wish_is_one_clear_line(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(['--out', str(tmp_path / 'world'), *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count('\n') == 1
    assert not (tmp_path / 'world').exists()


def test_a_folder_that_cannot_be_written_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / 'file').touch()
    assert main(['--out', str(tmp_path / 'file' / 'world'), '--scenes', '1']) == 2
    error = capsys.readouterr().err
    assert 'cannot be written' in error
    assert error.count('\n') == 1


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
def test_a_read_only_folder_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    tmp_path.chmod(0o500)
    assert main(['--out', str(tmp_path), '--scenes', '1']) == 2
    assert 'cannot be written' in capsys.readouterr().err


def test_size_is_parsed_or_refused() -> None:
    assert parse_size('400x225') == (400, 225)
    for text in ('400', '400x', 'x225', '400x-225', 'big'):
        with pytest.raises(Exception, match='WIDTHxHEIGHT'):
            parse_size(text)

"""Wrong commands, files and data of deployment: each is one sentence, and no half of a file is left. No onnx is needed."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pytest
from mmcv import Config

from projects.mmdet3d_plugin.command_line.parsers import parse_export_onnx
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.engine import test as testing
from projects.mmdet3d_plugin.engine.build import require_cameras
from projects.mmdet3d_plugin.engine.deploy import export_onnx as exporting
from projects.mmdet3d_plugin.engine.deploy import quantize
from projects.mmdet3d_plugin.engine.deploy.onnx_detector import OnnxDetector
from projects.mmdet3d_plugin.engine.deploy.onnx_session import OnnxSession, require_package
from projects.mmdet3d_plugin.engine.deploy.seal import require_seal, sealed

CONFIG = 'projects/configs/synthetic/detr3d_student.py'


class FakeSession:
    """Stands for onnxruntime's: a graph that adds nothing to what it is given."""

    def __init__(self, path: str, options: Any, providers: list[str]) -> None:
        self.props = json.loads(Path(path).read_text())

    def get_modelmeta(self) -> SimpleNamespace:
        return SimpleNamespace(custom_metadata_map=self.props)

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name='img', shape=['batch', 6, 3, 4, 8])]

    def get_outputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name='scores', shape=['boxes'])]

    def run(self, _: None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [feed['img'].sum((1, 2, 3, 4))]


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that a stand-in for onnxruntime takes for the graph of a DETR3D with six cameras."""
    runtime = SimpleNamespace(SessionOptions=SimpleNamespace, InferenceSession=FakeSession)
    monkeypatch.setitem(sys.modules, 'onnxruntime', runtime)
    path = tmp_path / 'graph.onnx'
    path.write_text(json.dumps(dict(host='"DETR3D"', classes='["car"]')))
    return path


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        ('import onnx', '^onnx is not installed: pip install -r requirements/onnx.txt'),
        (
            'import no_such_part',
            r"^onnxruntime cannot be imported \(No module named 'no_such_part'\): pip install",
        ),
        ('from json import no_such', r'^onnxruntime cannot be imported \(cannot import name .no_such'),
    ],
)
def test_a_package_that_lacks_another_is_not_called_missing(
    content: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'onnxruntime.py').write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, 'onnxruntime', raising=False)
    monkeypatch.setitem(sys.modules, 'onnx', None)
    with pytest.raises(UserError, match=said):
        require_package('onnxruntime')


@pytest.mark.parametrize('content', ['', '{"host": "\\"DETR', '{}', '{"host": "\\"DETR3D\\""}'])
def test_what_is_no_graph_of_ours_is_named(graph: Path, content: str) -> None:
    """Empty, cut off, without metadata, with half of it."""
    graph.write_text(content)
    said = r'graph\.onnx (is no graph of|has no metadata .* which) tools/export_onnx\.py .*export it again'
    with pytest.raises(UserError, match=said):
        OnnxSession(graph)


def test_a_graph_without_what_the_exporter_writes_is_named(graph: Path) -> None:
    """Somebody renamed an input, dropped an output, or wrote metadata of another kind; plain text of others is no matter."""
    graph.write_text(json.dumps(dict(host='"DETR3D"', classes='["car"]', tool='plain text')))
    session = OnnxSession(graph)
    found = session(dict(img=np.zeros((2, 6, 3, 4, 8), np.float32)))
    for parts, name, said in (
        (session.shapes, 'lidar2img', r"no input 'lidar2img'.*\(it has img\): export it again"),
        (found, 'boxes', r"no output 'boxes'.*\(it has scores\)"),
        (session.about, 'voxels', r"no metadata 'voxels'.*\(it has host, classes\)"),
    ):
        with pytest.raises(UserError, match=rf'graph\.onnx has {said}'):
            parts[name]
    with pytest.raises(UserError, match=r'onnxruntime cannot run .*graph\.onnx \(.*\): export it again'):
        session(dict(img=np.full((2, 6, 3, 4, 8), 'text')))
    graph.write_text(json.dumps(dict(host='"DETR3D"', classes='3')))
    with pytest.raises(UserError, match='calls its classes 3, which is no list'):
        OnnxSession(graph)


def test_a_changed_byte_is_noticed(graph: Path) -> None:
    content = sealed(b'graph')
    assert content.startswith(b'graph')
    graph.write_bytes(content)
    require_seal(graph)
    flipped = [content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :] for i in range(len(content))]
    for other in (*flipped, content + b'.', content[:-1], content[1:], b''):
        graph.write_bytes(other)
        with pytest.raises(
            UserError, match=r'graph\.onnx is not as tools/export_onnx\.py wrote it.*take sha256'
        ):
            require_seal(graph)
    graph.write_text(json.dumps(dict(host='"DETR3D"', classes='["car"]', sha256='"of other bytes"')))
    with pytest.raises(UserError, match='is not as'):
        OnnxSession(graph)


def test_a_graph_takes_what_it_was_exported_for(graph: Path) -> None:
    session = OnnxSession(graph)
    img = np.zeros((2, 6, 3, 4, 8), np.float32)
    assert session(dict(img=img))['scores'].tolist() == [0, 0]
    for other in (img[:, :5], img[0], img[..., :4]):
        with pytest.raises(UserError, match=r'takes img of shape .*export it again from this config'):
            session(dict(img=other))
    with pytest.raises(UserError, match='takes img, but is given img, lidar2img: export it again'):
        session(dict(img=img, lidar2img=img))
    with pytest.raises(UserError, match='not finite'):
        session(dict(img=img + np.inf))


class Samples(list):
    """A dataset of as many samples as cameras."""

    @property
    def cameras(self) -> list[str]:
        return list(self)


def test_a_graph_is_held_to_its_config(graph: Path) -> None:
    detector = OnnxDetector(graph)
    detector.require_kind('DETR3D')
    with pytest.raises(UserError, match='the graph of a DETR3D, but the config is that of a VoxelNet'):
        detector.require_kind('VoxelNet')
    require_cameras(detector, Samples('abcdef'))
    with pytest.raises(
        UserError, match=r'have 2 cameras \(left, right\), but the model was made for 6: train and export one'
    ):
        require_cameras(detector, Samples(['left', 'right']))


def test_a_graph_has_no_other_precision(graph: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(testing, 'check_test_config', lambda cfg: None)
    with pytest.raises(UserError, match=r'--amp bf16: .*graph\.onnx computes in the precision'):
        testing.evaluate_checkpoint(Config(), graph, tmp_path / 'out', amp='bf16')


@pytest.mark.parametrize(
    ('options', 'named'),
    [
        (['student'], r'student must end with \.onnx'),
        (['old.onnx'], 'old.onnx exists: choose another name or say --force'),
        (['new.onnx', '--int8', '0'], '--int8 is 0: it must be a whole number of at least 1'),
    ],
)
def test_mistaken_commands(
    options: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path('old.onnx').touch()
    with pytest.raises(UserError, match=named):
        exporting._export_from(parse_export_onnx([CONFIG, 'weights.pth', *options]))


def interrupt(*_: Any) -> NoReturn:
    """Ctrl-C in the middle of the calibration."""
    raise KeyboardInterrupt


def test_eight_bits_leave_nothing_half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither where the calibration is interrupted, nor where there is nothing to calibrate with."""
    out, exported = tmp_path / 'int8.onnx', []
    monkeypatch.setattr(exporting, 'require_package', lambda name: None)
    monkeypatch.setattr(exporting, 'calibration_samples', lambda cfg: [])
    monkeypatch.setattr(
        exporting, 'export_onnx', lambda cfg, _, path: exported.append(path.write_bytes(b'float'))
    )
    monkeypatch.setattr(exporting, 'quantize', interrupt)
    with pytest.raises(KeyboardInterrupt):
        exporting.export_int8(Config(), 'weights.pth', out, 2)
    assert exported
    assert not [*tmp_path.iterdir()]
    monkeypatch.setattr(exporting, 'calibration_samples', quantize.calibration_samples)
    monkeypatch.setattr(quantize, 'build_split', lambda *_, **__: [])
    data = dict(train=dict(ann_file='train.pkl'), test=dict(ann_file='val.pkl'))
    with pytest.raises(UserError, match=r'train\.pkl has no samples to calibrate int8 with'):
        exporting.export_int8(Config(dict(data=data)), 'weights.pth', out, 2)
    assert len(exported) == 1

"""Convolutions of an exported graph in eight bits, with ranges that frames of the training split have shown."""

import copy
import logging
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from mmcv import Config
from torch.utils.data import Dataset

from projects.mmdet3d_plugin.common.config import innermost_datasets
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import write_bytes
from projects.mmdet3d_plugin.engine.build import build_loader, build_split
from projects.mmdet3d_plugin.engine.deploy.onnx_detector import OnnxDetector
from projects.mmdet3d_plugin.engine.deploy.onnx_session import Feed, RecordingSession, require_package
from projects.mmdet3d_plugin.engine.deploy.seal import SEAL, sealed
from projects.mmdet3d_plugin.engine.launch import start
from projects.mmdet3d_plugin.engine.parallel import unpack_batch

QUANTISED = ('Conv',)
"""What is computed in eight bits: nearly all of the cost. Geometry, attention and decoded boxes need more."""


def quantize(path: str | Path, feeds: Iterator[Feed]) -> None:
    """Replace a graph by one whose convolutions are computed in eight bits (onnxruntime's static quantisation).

    Args:
        path: a file of :func:`export_onnx`; overwritten.
        feeds: inputs of the graph, from which the ranges of activations are taken.

    Raises:
        UserError: onnxruntime is not installed.
    """
    quantization = require_package('onnxruntime.quantization')
    onnx = require_package('onnx')
    logging.getLogger().addFilter(_not_about_preprocessing)
    with tempfile.TemporaryDirectory() as folder:
        ready, out = Path(folder) / 'ready.onnx', Path(folder) / 'int8.onnx'
        proto = onnx.load(str(path))
        about = {entry.key: entry.value for entry in proto.metadata_props if entry.key != SEAL}
        _with_own_weights(proto.graph)
        onnx.save(proto, str(ready))
        quantization.quantize_static(
            str(ready),
            str(out),
            _Reader(feeds),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        proto = onnx.load(str(out))
    onnx.helper.set_model_props(proto, about)
    write_bytes(path, sealed(proto.SerializeToString()))


def calibration_feeds(path: str | Path, cfg: Config, samples: Dataset, frames: int) -> Iterator[Feed]:
    """What a graph is fed with in the first frames of some samples; history included.

    Args:
        path: the graph.
        cfg: of the detector and its data.
        samples: those of :func:`calibration_samples`.
        frames: at the most.
    """
    detector = OnnxDetector(path, torch.get_num_threads())
    detector.session = recorder = RecordingSession(path, torch.get_num_threads())
    launch, memory = start('none'), detector.new_memory()
    for batch in islice(build_loader(cfg, samples, False, launch), frames):
        detector(memory=memory, **unpack_batch(batch, launch))
        yield from recorder.feeds
        recorder.feeds.clear()


def calibration_samples(cfg: Config) -> Dataset:
    """The samples of the training split, seen as in testing.

    Raises:
        UserError: there are none.
    """
    cfg = copy.deepcopy(cfg)
    train = next(innermost_datasets(cfg.data.train))
    if 'ann_file' not in train:
        raise UserError('data.train has no ann_file, so that there are no frames to calibrate int8 with')
    next(innermost_datasets(cfg.data.test))['ann_file'] = train['ann_file']
    samples = build_split(cfg, 'test', test_mode=True)
    if not len(samples):
        raise UserError(
            f'{train["ann_file"]} has no samples to calibrate int8 with: is it the right info file?'
        )
    return samples


def _with_own_weights(graph: Any) -> None:
    """Undo, in place, that the exporter keeps equal weights once: a convolution whose bias is a copy would stay in float."""
    weights = {weight.name: weight for weight in graph.initializer}
    for node in list(graph.node):
        if node.op_type == 'Identity' and node.input[0] in weights:
            own = graph.initializer.add()
            own.CopyFrom(weights[node.input[0]])
            own.name = node.output[0]
            graph.node.remove(node)


class _Reader:
    """onnxruntime's way to ask for the next inputs."""

    def __init__(self, feeds: Iterator[Feed]) -> None:
        self.feeds = iter(feeds)

    def get_next(self) -> Feed | None:
        """The next inputs, None behind the last."""
        return next(self.feeds, None)


def _not_about_preprocessing(entry: logging.LogRecord) -> bool:
    """onnxruntime advises to fuse and to infer shapes first; the exporter has fused, and convolutions need no shapes."""
    return 'pre-processing before quantization' not in entry.getMessage()

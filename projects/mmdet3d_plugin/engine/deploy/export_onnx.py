"""Write a trained detector as a graph in ONNX that stock onnxruntime runs."""

import argparse
import io
import json
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmcv import Config
from torch import Tensor, nn

from projects.mmdet3d_plugin.command_line.parsers import parse_export_onnx
from projects.mmdet3d_plugin.common.checkpoint import load_weights, read_checkpoint
from projects.mmdet3d_plugin.common.config import innermost_datasets, load_config
from projects.mmdet3d_plugin.common.config_checks.numbers import COUNT, check_number
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import require_writable_file, write_bytes
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.distill.hosts.adapter import adapter_for
from projects.mmdet3d_plugin.engine import cli
from projects.mmdet3d_plugin.engine.config_check import check_test_config
from projects.mmdet3d_plugin.engine.deploy import hosts  # noqa: F401  registers the adapters
from projects.mmdet3d_plugin.engine.deploy.onnx_detector import SUFFIX
from projects.mmdet3d_plugin.engine.deploy.onnx_host import Graph, OnnxHost, host_of
from projects.mmdet3d_plugin.engine.deploy.onnx_session import require_package
from projects.mmdet3d_plugin.engine.deploy.plain_deform_conv import plain_deform_convs
from projects.mmdet3d_plugin.engine.deploy.quantize import calibration_feeds, calibration_samples, quantize
from projects.mmdet3d_plugin.engine.deploy.seal import sealed
from projects.mmdet3d_plugin.ops.library import pure_torch

OPSET = 17
# of torch's exporter: what it leaves to onnxruntime, and that indices must not be negative, which none of ours are
_REMARKS = ('Constant folding', 'Exporting aten::index operator')
_VIEW = ('size', 'scale', 'crop', 'mean', 'std', 'to_rgb', 'pad_divisor')


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of tools/export_onnx.py."""
    cli.run(_export_from, parse_export_onnx(argv))


def _export_from(arguments: argparse.Namespace) -> None:
    """Export as parsed arguments say, and print what came out."""
    out = Path(arguments.out)
    if out.suffix != SUFFIX:
        raise UserError(f'{out} must end with {SUFFIX}, by which tools/test.py knows a graph')
    if out.exists() and not arguments.force:
        raise UserError(f'{out} exists: choose another name or say --force')
    check_number('--int8', arguments.int8, COUNT)
    cfg = load_config(arguments.config, arguments.cfg_options, arguments.data_root)
    if arguments.int8 is None:
        export_onnx(cfg, arguments.checkpoint, out)
    else:
        export_int8(cfg, arguments.checkpoint, out, arguments.int8)
    print(f'wrote {out}, {out.stat().st_size / 2**20:.1f} MiB')


def export_int8(cfg: Config, checkpoint: str | Path, out: str | Path, frames: int) -> None:
    """Write the graph of a detector with its convolutions in eight bits; until it is whole there is no file.

    Args:
        cfg: of the detector and its data.
        checkpoint: see :func:`export_onnx`.
        out: the file to write.
        frames: of the training split, at the most, that ranges of activations are taken from.

    Raises:
        UserError: see :func:`export_onnx`; or onnxruntime is not installed, or there are no frames.
    """
    require_package('onnxruntime')
    require_writable_file(out)
    samples = calibration_samples(cfg)  # looked for before the export, which takes longer
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f'graph{SUFFIX}'
        export_onnx(cfg, checkpoint, path)
        quantize(path, calibration_feeds(path, cfg, samples, frames))
        write_bytes(out, path.read_bytes())


def export_onnx(cfg: Config, checkpoint: str | Path, out: str | Path) -> None:
    """Write the graph of a detector, with its classes and the view of the images in its metadata.

    Args:
        cfg: of the detector, as :func:`load_config` returns it.
        checkpoint: weights; they must fit exactly.
        out: the file to write.

    Raises:
        UserError: onnx is not installed, or there is no graph of this detector.
    """
    onnx = require_package('onnx')
    require_writable_file(out)
    check_test_config(cfg)
    host = host_of(cfg.model.type)
    content = read_checkpoint(checkpoint)
    model = build_model(cfg.model, caches=False)
    load_weights(model, content, source=checkpoint)
    host.prepare(model.eval())
    proto = onnx.load_from_string(
        trace(host, model, host.example(model, adapter_for(model).blank_batch(cfg)))
    )
    classes = content['meta'].get('CLASSES') or cfg.get('class_names') or cfg.data.test.get('classes')
    about = dict(host=cfg.model.type, classes=list(classes or ()), **host.about(model))
    if host.images:
        about['view'] = _view_of(cfg)
    onnx.helper.set_model_props(proto, {key: json.dumps(value) for key, value in about.items()})
    onnx.checker.check_model(proto)
    write_bytes(out, sealed(proto.SerializeToString()))


# mmdet3d writes ``mask &= other``, which the exporter has overlooked
torch.onnx.register_custom_op_symbolic('aten::__iand_', lambda g, one, other: g.op('And', one, other), OPSET)


def trace(host: OnnxHost, model: nn.Module, example: dict[str, Tensor]) -> bytes:
    """The graph of a detector in ONNX, of fixed sizes but for the axes that its adapter names."""
    file = io.BytesIO()
    with torch.no_grad(), pure_torch(), plain_deform_convs(), warnings.catch_warnings():
        # sizes of tensors are meant to be fixed, which the tracer warns of at each of them
        warnings.simplefilter('ignore', torch.jit.TracerWarning)
        warnings.simplefilter('ignore', DeprecationWarning)
        for remark in _REMARKS:
            warnings.filterwarnings('ignore', remark, UserWarning)
        torch.onnx.export(
            Graph(host, model),
            tuple(example.values()),
            file,
            opset_version=OPSET,
            input_names=list(example),
            output_names=list(host.outputs),
            dynamic_axes=host.axes,
            dynamo=False,  # the other exporter needs onnxscript
        )
    return file.getvalue()


def _view_of(cfg: Config) -> dict[str, Any]:
    """How images are resized and normalised in testing, for whoever feeds the graph."""
    pipeline = next(innermost_datasets(cfg.data.test)).get('pipeline', ())
    view = next((step for step in pipeline if step.get('type') == 'ImageView'), None)
    if view is None:
        raise UserError(
            'data.test.pipeline has no ImageView, so that nobody could know what images to give to the graph'
        )
    defaults = dict(
        size=None,
        scale=1.0,
        crop=None,
        mean=(103.530, 116.280, 123.675),
        std=(1.0, 1.0, 1.0),
        to_rgb=False,
        pad_divisor=32,
    )
    return {key: view.get(key, defaults[key]) for key in _VIEW}

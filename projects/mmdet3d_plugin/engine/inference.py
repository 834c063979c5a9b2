"""Run a detector over a data loader and bring the results of every process together in order."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from mmdet.models.detectors.base import BaseDetector
from mmdet3d.models.detectors.base import Base3DDetector
from torch import nn
from torch.utils.data import DataLoader

from projects.mmdet3d_plugin.common.checkpoint import unwrap
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.models import evaluating
from projects.mmdet3d_plugin.common.progress import track
from projects.mmdet3d_plugin.engine import interrupts
from projects.mmdet3d_plugin.engine.amp import Precision
from projects.mmdet3d_plugin.engine.launch import Launch, gather_objects
from projects.mmdet3d_plugin.engine.packed_results import PackedResults
from projects.mmdet3d_plugin.engine.parallel import unpack_batch
from projects.mmdet3d_plugin.ops.pages import kept_pages


@kept_pages()
@torch.no_grad()
def run_inference(
    model: nn.Module,
    data_loader: DataLoader,
    launch: Launch,
    precision: Precision | None = None,
) -> list[dict[str, Any]] | None:
    """Detect in every sample of a loader, with as many processes as there are.

    Args:
        model: a detector, or a distiller (its student answers); a parallel wrapper around it is looked through.
        data_loader: loader whose sampler yields this process's indices in temporal order.
        launch: the place of this process.
        precision: how the forward pass computes, fp32 by default.

    Returns:
        on rank 0 one result dict per sample in the dataset's order, None elsewhere.

    Raises:
        UserError: what a head predicts for a sample is not finite. No threshold would let such scores pass, so that
            they would count as nothing found.
    """
    detector = unwrap(model)
    detector = getattr(detector, 'student', detector)
    precision = precision or Precision()
    extra = test_arguments(detector)
    results: list[dict[str, Any]] = []
    with evaluating(detector), _finite_heads(detector):
        for batch in track(data_loader, len(data_loader), 'evaluating', launch.is_main):
            interrupts.check()
            with precision.autocast():
                found = _detect(detector, dict(unpack_batch(batch, launch), **extra))
            results.extend(to_cpu(result) for result in found)
    return gather_results(
        list(zip(sample_indices(data_loader), results, strict=True)), len(data_loader.dataset)
    )


def test_arguments(detector: nn.Module) -> dict[str, Any]:
    """What a detector is given in testing, beside each batch.

    What a temporal host remembers of the last frame lives here and dies here, not on the module. mmdet's 2D detectors are
    asked for boxes in pixels of the original image, which annotations are in.
    """
    extra = dict(memory=detector.new_memory()) if hasattr(detector, 'new_memory') else {}
    if isinstance(detector, BaseDetector) and not isinstance(detector, Base3DDetector):
        extra['rescale'] = True
    return extra


def _detect(detector: nn.Module, batch: dict[str, Any]) -> list[dict[str, Any]]:
    """Results of one batch, or one line that names the sample."""
    try:
        return detector(return_loss=False, **batch)
    except _NotFiniteError as error:
        meta = batch.get('img_metas')
        while isinstance(meta, (list, tuple)) and meta:  # per view, per sample, per frame
            meta = meta[-1]
        names = ('pts_filename', 'sample_token', 'sample_idx', 'filename')
        name = next((meta[key] for key in names if key in meta), '?') if isinstance(meta, dict) else '?'
        raise UserError(
            f'{error} for sample {name}: the checkpoint or what is read of this sample holds numbers that are not '
            'finite'
        ) from None


class _NotFiniteError(ArithmeticError):
    """A head returned NaN or an infinity."""


@contextmanager
def _finite_heads(model: nn.Module) -> Iterator[None]:
    """Look, for a block, at what every detection head returns before it is turned into boxes.

    mmdet's dense heads call their own ``forward``, past all hooks, so that it is replaced.
    """
    heads = [module for module in model.modules() if hasattr(module, 'get_bboxes')]
    for head in heads:
        head.forward = partial(_checked, head, head.forward)
    try:
        yield
    finally:
        for head in heads:
            del head.forward


def _checked(head: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    outputs = forward(*args, **kwargs)
    _require_finite(head, outputs)
    return outputs


def _require_finite(head: nn.Module, outputs: Any) -> None:
    if isinstance(outputs, torch.Tensor):
        if not torch.isfinite(outputs).all():
            raise _NotFiniteError(f'{type(head).__name__} predicts what is not finite')
        return
    values = outputs.values() if isinstance(outputs, dict) else outputs
    # a letter of a text is a text again
    for value in values if isinstance(values, Iterable) and not isinstance(values, str) else ():
        _require_finite(head, value)


def sample_indices(data_loader: DataLoader) -> list[int]:
    """Indices that a loader serves, in its order."""
    if data_loader.batch_sampler is None:
        return list(data_loader.sampler)
    return [index for batch in data_loader.batch_sampler for index in batch]


def gather_results(indexed: list[tuple[int, Any]], total: int) -> list[Any] | None:
    """Bring (index, result) pairs of all processes to rank 0; what travels are a few arrays.

    Args:
        indexed: this process's pairs.
        total: how many samples there are.

    Returns:
        results in the order of indices on rank 0, None elsewhere.
    """
    indices, results = [index for index, _ in indexed], [result for _, result in indexed]
    parts = gather_objects((indices, PackedResults.pack(results)))
    if parts is None:
        return None
    by_index = {
        index: result for own, packed in parts for index, result in zip(own, packed.unpack(), strict=True)
    }
    absent = sorted(set(range(total)) - set(by_index))
    if absent or len(by_index) != total:
        raise RuntimeError(
            f'{len(by_index)} results for {total} samples; first samples without a result: {absent[:5]}: '
            'the sampler of the test loader does not cover the dataset'
        )
    return [by_index[index] for index in range(total)]


def to_cpu(result: Any) -> Any:
    """Move boxes and tensors of a result to the CPU, through dicts, lists and tuples.

    Example:
        >>> to_cpu({'boxes': torch.zeros(1, 7)})['boxes'].device
        device(type='cpu')
    """
    if isinstance(result, dict):
        return {key: to_cpu(value) for key, value in result.items()}
    if isinstance(result, (list, tuple)):
        return type(result)(to_cpu(item) for item in result)
    if isinstance(result, torch.Tensor):
        return result.detach().cpu()
    return result.to('cpu') if hasattr(result, 'to') else result

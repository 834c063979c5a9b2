"""How papers count what a model costs, where they count otherwise than :mod:`op_counter` does."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from mmcv.cnn.utils.flops_counter import get_modules_mapping
from torch import Tensor, nn

from projects.mmdet3d_plugin.ops.linear import Linear
from projects.mmdet3d_plugin.studies.cost.op_counter import OpCounter

Rows = dict[nn.Module, Callable[[tuple], dict[nn.Module, int]]]


class PublishedRule:
    """mmcv's counting rule, applied module by module while a model runs.

    Args:
        model: what is going to run.
        counter: knows the part that runs.
        rows: where published figures count other rows of linear layers than ours computes, see
            :meth:`~projects.mmdet3d_plugin.distill.hosts.adapter.HostAdapter.published_rows`.

    Attributes:
        macs: part -> multiply-accumulates.
    """

    def __init__(self, model: nn.Module, counter: OpCounter, rows: Rows | None = None) -> None:
        self.macs: Counter = Counter()
        self._counter = counter
        self._published: dict[nn.Module, int] = {}
        self._handles = []
        rules = {**get_modules_mapping(), Linear: get_modules_mapping()[nn.Linear]}
        for module in model.modules():
            if type(module) in rules:
                self._handles.append(module.register_forward_hook(self._hook(rules[type(module)])))
        for module, rows_of in (rows or {}).items():
            note = partial(self._note_rows, rows_of)
            self._handles.append(module.register_forward_pre_hook(note))

    def remove(self) -> None:
        """Leave the model as it was."""
        for handle in self._handles:
            handle.remove()

    def _hook(self, rule: Any) -> Any:
        """mmcv's rule adds to an attribute of the module; move it from there to the part's account."""

        def book(module: nn.Module, inputs: tuple, output: Any) -> None:
            if module in self._published:
                macs = self._published[module] * module.in_features * module.out_features
            else:
                module.__flops__ = 0
                rule(module, inputs, output)
                macs = int(module.__flops__)
                del module.__flops__
            self.macs[self._counter.part] += macs

        return book

    def _note_rows(self, rows_of: Callable[[tuple], dict], module: nn.Module, inputs: tuple) -> None:
        self._published.update(rows_of(inputs))


class LayerTally:
    """Watches convolutions and linear layers: what they return, and what SparseKD's rule charges too much.

    Args:
        model: what is going to run.
        counter: knows the part that runs.

    Attributes:
        activations: part -> elements.
        surcharge: part -> multiply-accumulates.
    """

    def __init__(self, model: nn.Module, counter: OpCounter) -> None:
        self.activations: Counter = Counter()
        self.surcharge: Counter = Counter()
        self._counter = counter
        self._handles = [
            module.register_forward_hook(self._book) for module in model.modules() if _is_layer(module)
        ]

    def remove(self) -> None:
        """Leave the model as it was."""
        for handle in self._handles:
            handle.remove()

    def _book(self, module: nn.Module, inputs: tuple, output: Any) -> None:
        out = (
            output if isinstance(output, Tensor) else output.features
        )  # sparse tensors have rows of features
        self.activations[self._counter.part] += out.numel()
        if isinstance(module, nn.ConvTranspose2d):
            cells = out[0, 0].numel() - inputs[0][0, 0].numel()
            self.surcharge[self._counter.part] += len(out) * cells * module.weight.numel()


def _is_layer(module: nn.Module) -> bool:
    """Whether a module is a convolution, dense or sparse, or a linear layer."""
    sparse = type(module).__name__.startswith(('SparseConv', 'SubMConv', 'SparseInverseConv'))
    dense = isinstance(module, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
    return dense or (sparse and hasattr(module, 'weight'))

"""The base: places of a dense head's output, with class logits and box codes."""

import copy
from typing import Any, ClassVar

from mmcv.runner import BaseModule
from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.registry import DistillError


class DenseHead:
    """Reads what a host's head returns, in the shape that the tap ``heads`` documents.

    Rows are counted within a sample as a second stage counts them, see ``Proposals.indices``; places are where class
    logits lie. With anchors they are the same; the tasks of a centre head have one row each for one cell.

    Args:
        head: the host's module, whose coder and losses are used; it is not kept as a part of anything.
    """

    offers: ClassVar[str]
    """What the head is, for messages."""

    def __init__(self, head: nn.Module) -> None:
        self.head = head

    def logits(self, outputs: Any) -> Tensor:
        """Class logits (B, places, classes), live where ``outputs`` are."""
        raise NotImplementedError

    def rows(self, outputs: Any) -> int:
        """How many rows a sample has."""
        raise self._lacks('rows of boxes')

    def layout(self) -> dict[str, Any]:
        """What tells which box a row stands for, by name: heads whose layouts and numbers of rows agree mean the same rows."""
        raise self._lacks('rows of boxes')

    def place(self, outputs: Any, rows: Tensor) -> Tensor:
        """The places (M,) of rows (M,)."""
        return rows

    def codes(self, outputs: Any, sample: Tensor, rows: Tensor) -> Tensor:
        """Box codes (M, D) of rows (M,) in samples (M,), live where ``outputs`` are."""
        raise self._lacks('box codes by row')

    def encode(self, outputs: Any, rows: Tensor, boxes: Tensor) -> Tensor:
        """What a row's code should be for it to become a box.

        Args:
            outputs: for their sizes.
            rows: (M,).
            boxes: (M, 7) bottom centres, metres and radians, LiDAR frame.

        Returns:
            (M, D).
        """
        raise self._lacks('a coder of boxes')

    def distance(self, codes: Tensor, targets: Tensor) -> Tensor:
        """The host's own box loss of codes (M, D), summed over a box -> (M,)."""
        raise self._lacks('a box loss by row')

    def fresh(self) -> nn.Module:
        """A new head of the same shape with its own initial weights."""
        raise self._lacks('a head that reads one map')

    @property
    def in_channels(self) -> int:
        """Channels of the map that :meth:`fresh` takes."""
        raise self._lacks('a head that reads one map')

    def map_size(self, outputs: Any) -> tuple[int, int]:
        """(H, W) of the map that the outputs lie on."""
        raise self._lacks('a map')

    def run(self, head: nn.Module, feature: Tensor) -> Any:
        """A fresh head on a map (B, C, H, W) -> outputs in the documented shape."""
        raise self._lacks('a head that reads one map')

    def detection_loss(self, head: nn.Module, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """The sum of the host's own losses of a fresh head's outputs on the ground truth of a batch."""
        raise self._lacks('losses of a head that reads one map')

    def _lacks(self, what: str) -> DistillError:
        return DistillError(f'{self.offers} have no {what}, which the loss needs; take another host or loss')


def renewed(head: nn.Module) -> nn.Module:
    """A copy of a head with new weights, drawn as its layers and its own ``init_weights`` do."""
    new = copy.deepcopy(head).requires_grad_(True).train()
    for module in new.modules():
        if hasattr(module, 'reset_parameters'):
            module.reset_parameters()
        if isinstance(module, BaseModule):
            module._is_init = False
    new.init_weights()
    return new

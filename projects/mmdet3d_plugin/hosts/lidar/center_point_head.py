"""mmdet3d's centre head with the initial values that it means to have, and for frames with a single candidate."""

from collections.abc import Sequence
from typing import Any

from mmdet3d.models.builder import HEADS
from mmdet3d.models.dense_heads.centerpoint_head import CenterHead
from torch import Tensor


@HEADS.register_module()
class CenterPointHead(CenterHead):
    """The head of CenterPoint; weights of mmdet3d's ``CenterHead`` fit.

    mmdet3d keeps the heads of the tasks in a plain ``ModuleList``, where mmcv's recursion does not find their
    ``init_weights``: heatmaps then start at a probability of one half instead of one tenth. That is mended. The
    rest of those ``init_weights``, Kaiming's values for the last convolutions too, would make logits of several units
    at random and a first heatmap loss a hundred times as large.
    """

    def init_weights(self) -> None:
        """Initialise the shared convolution and the biases of all heatmaps."""
        super().init_weights()
        for task in self.task_heads:
            task.heatmap[-1].bias.data.fill_(task.init_bias)

    def get_task_detections(
        self, num_class_with_bg: int, batch_cls_preds: Sequence[Tensor], *args: Any
    ) -> list[dict[str, Tensor]]:
        """What is left of one task's candidates after non-maximum suppression.

        mmdet3d squeezes scores, which makes a number of a list of one, and fails where no threshold restores it.

        Args:
            num_class_with_bg: of the task.
            batch_cls_preds: B times scores (n_i,).
            args: boxes, labels and metas.
        """
        return super().get_task_detections(
            num_class_with_bg, [scores[:, None] for scores in batch_cls_preds], *args
        )

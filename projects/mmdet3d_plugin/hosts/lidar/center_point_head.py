"""mmdet3d's centre head with the initial values that it means to have."""

from mmdet3d.models.builder import HEADS
from mmdet3d.models.dense_heads.centerpoint_head import CenterHead


@HEADS.register_module()
class CenterPointHead(CenterHead):
    """The head of CenterPoint; weights of mmdet3d's ``CenterHead`` fit.

    mmdet3d keeps the heads of the tasks in a plain ``ModuleList``, where mmcv's recursion does not find their
    ``init_weights``: heatmaps then start at a probability of one half instead of one tenth. Only that is mended. The
    rest of those ``init_weights``, Kaiming's values for the last convolutions too, would make logits of several units
    at random and a first heatmap loss a hundred times as large.
    """

    def init_weights(self) -> None:
        """Initialise the shared convolution and the biases of all heatmaps."""
        super().init_weights()
        for task in self.task_heads:
            task.heatmap[-1].bias.data.fill_(task.init_bias)

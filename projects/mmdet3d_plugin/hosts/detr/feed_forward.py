"""The feed-forward network of BEVFormer's layers."""

from torch import Tensor, nn

from projects.mmdet3d_plugin.ops.linear import Linear


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between them, and the residual; weights are named as in mmcv's ``FFN``.

    Args:
        embed_dims: C.
        hidden_dims: width between the two.
        dropout: after either.

    Example:
        >>> import torch
        >>> FeedForward(8, 16, dropout=0.0)(torch.zeros(1, 5, 8)).shape
        torch.Size([1, 5, 8])
    """

    def __init__(self, embed_dims: int, hidden_dims: int, dropout: float) -> None:
        super().__init__()
        hidden = nn.Sequential(Linear(embed_dims, hidden_dims), nn.ReLU(inplace=True), nn.Dropout(dropout))
        self.layers = nn.Sequential(hidden, Linear(hidden_dims, embed_dims), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return x + self.layers(x)

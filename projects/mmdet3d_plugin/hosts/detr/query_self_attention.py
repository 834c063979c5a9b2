"""Object queries attend to one another (DETR)."""

from torch import Tensor, nn


class QuerySelfAttention(nn.Module):
    """Object queries attend to one another.

    Args:
        embed_dims: C.
        num_heads: M.
        dropout: on the attention weights and on the output.
    """

    def __init__(self, embed_dims: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(embed_dims, num_heads, dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, query: Tensor, query_pos: Tensor) -> Tensor:
        """(B, Q, C) queries and positions -> (B, Q, C), with the residual added."""
        with_pos = query + query_pos
        out, _ = self.attn(with_pos, with_pos, query, need_weights=False)
        return query + self.dropout(out)

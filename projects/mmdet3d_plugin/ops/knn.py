"""Nearest rows in feature space, within a bounded amount of memory."""

import torch
from torch import Tensor

_CHUNK_BYTES = 48 * 2**20


@torch.no_grad()
def nearest_rows(features: Tensor, query: Tensor, k: int, chunk_bytes: int = _CHUNK_BYTES) -> Tensor:
    """The k rows nearest to each of some rows, by Euclidean distance of features, the row itself first.

    The matrix of distances is never whole in memory: it is made ``chunk_bytes`` at a time. 6,000 queries among
    16,000 rows would need 384 MB at once and take less than 100 MB here.

    Args:
        features: (V, C), all rows.
        query: (N,) indices of the rows that ask.
        k: how many neighbours; clamped to V.
        chunk_bytes: size of one chunk of the matrix of distances, >= one row of it.

    Returns:
        (N, min(k, V)) indices of rows, nearest first.

    Example:
        >>> nearest_rows(torch.tensor([[0.0], [5.0], [1.0]]), torch.tensor([0, 1]), k=2)
        tensor([[0, 2],
                [1, 2]])
    """
    if k < 1:
        raise ValueError(f'k must be at least 1, got {k}')
    k = min(k, len(features))
    if len(query) == 0:
        return query.new_zeros(0, k)
    # Distances do not change with the origin, and cancellation is least around the mean.
    rows = features.float() if features.dtype.itemsize < 4 else features
    rows = rows - rows.mean(0)
    step = max(1, chunk_bytes // (len(rows) * rows.element_size()))
    norm = rows.square().sum(1)
    found = [_nearest_chunk(rows, norm, part, k) for part in query.split(step)]
    return torch.cat(found)


def _nearest_chunk(rows: Tensor, norm: Tensor, query: Tensor, k: int) -> Tensor:
    """(V, C), (V,) squared norms, (n,) queries -> (n, k).

    ``|q - r|^2 - |q|^2``: what is the same for all rows of a query does not change the order.
    """
    distance = torch.addmm(norm, rows[query], rows.t(), alpha=-2)
    # Nearer than rows with equal features, of which there may be more than k.
    distance.scatter_(1, query[:, None], -torch.inf)
    return distance.topk(k, largest=False).indices

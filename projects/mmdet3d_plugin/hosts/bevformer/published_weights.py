"""Which config a file of published BEVFormer weights belongs to."""

import re
from collections.abc import Mapping

from torch import Tensor

BEV_EMBEDDING = 'pts_bbox_head.bev_embedding.weight'
# Rows of the BEV embedding, FPN laterals -> the config those published weights were made with.
KNOWN_GEOMETRIES = {
    (40000, 3): 'projects/configs/bevformer/bevformer_base.py',
    (22500, 1): 'projects/configs/bevformer/bevformer_small_c5_150x150.py',
    (10000, 4): 'projects/configs/bevformer/bevformer_small.py',
    (2500, 1): 'projects/configs/bevformer/bevformer_tiny.py',
}


def config_hint(state: Mapping[str, Tensor]) -> str:
    """Name the config that weights belong to, told by their shapes.

    Args:
        state: weights by plain name; the BEV embedding is (bev_h * bev_w, C).

    Returns:
        A sentence, '' for weights of something else.
    """
    if BEV_EMBEDDING not in state:
        return ''
    rows = state[BEV_EMBEDDING].shape[0]
    laterals = len({key for key in state if re.fullmatch(r'img_neck\.lateral_convs\.\d+\.conv\.weight', key)})
    side = round(rows**0.5)
    shape = f'{side}x{side}' if side * side == rows else f'{rows} cells'
    found = KNOWN_GEOMETRIES.get((rows, laterals))
    fits = f'it fits {found}' if found else 'none of the published configs has that'
    return f'hint: the file is of a model with a BEV of {shape} and {laterals} image levels: {fits}'

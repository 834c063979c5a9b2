"""Which config a file of published DETR3D weights belongs to."""

from collections.abc import Mapping

from torch import Tensor

CROSS_ATTENTION = 'pts_bbox_head.transformer.decoder.layers.0.attentions.1.position_encoder.0.weight'
# A key that only one backbone has -> the config those published weights were made with.
KNOWN_BACKBONES = {
    'img_backbone.layer3.0.conv2.conv_offset.weight': 'projects/configs/detr3d/detr3d_r101.py',
    'img_backbone.stem.stem_1/conv.weight': 'projects/configs/detr3d/detr3d_vov.py',
    'img_backbone.layer1.0.conv1.weight': 'projects/configs/detr3d/detr3d_r50.py',
}


def config_hint(state: Mapping[str, Tensor]) -> str:
    """Name the config that weights belong to, told by their backbone.

    Args:
        state: weights by plain name, of shapes such as (C, C).

    Returns:
        A sentence, '' for weights of something else.
    """
    if CROSS_ATTENTION not in state:
        return ''
    found = next((config for key, config in KNOWN_BACKBONES.items() if key in state), None)
    return f'hint: the file is of a DETR3D that fits {found}' if found else ''

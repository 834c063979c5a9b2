# PKD (NeurIPS 2022): image features are compared by their correlation, whatever their scale. Published, on the first four
# levels, over the batch and with 24 epochs: 38.4 -> 40.3 box AP.
from projects.configs._base_.recipes import frozen

_base_ = ['../faster_rcnn_r50.py']

distiller = dict(
    type='Distiller',
    teacher=frozen('projects/configs/coco/faster_rcnn_r101.py', 'ckpts/faster_rcnn_r101_fpn_2x_coco.pth'),
    terms=[dict(type='PearsonCorrelation', name='pkd', on='pv', over_batch=True, weight=6.0)],
)

# PKD (NeurIPS 2022) between different heads: GFL-R101 teaches RetinaNet-R50. Published for another pair, FCOS-X101 and
# RetinaNet-R50: 36.5 -> 40.3 box AP.
from projects.configs._base_.recipes import frozen

_base_ = ['../retinanet_r50.py']

distiller = dict(
    type='Distiller',
    teacher=frozen('projects/configs/coco/gfl_r101.py', 'ckpts/gfl_r101_fpn_mstrain_2x_coco.pth'),
    terms=[dict(type='PearsonCorrelation', name='pkd', on='pv', over_batch=True, weight=6.0)],
)

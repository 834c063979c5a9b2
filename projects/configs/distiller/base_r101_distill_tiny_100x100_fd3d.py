# FD3D (CVPR 2023): Base* (plain R101) teaches tiny (published: 39.02 -> 43.09 NDS, 26.87 -> 31.00 mAP, the headline).
# Base* was never published; train it first: tools/dist_train.sh projects/configs/bevformer/bevformer_base_r101.py 8
from projects.configs._base_.recipes import frozen

_base_ = ['../bevformer/bevformer_tiny_100x100.py', '../_base_/distill/fd3d.py']

_base_star = 'projects/configs/bevformer/bevformer_base_r101.py'
distiller = dict(teacher=frozen(_base_star, 'work_dirs/bevformer_base_r101/epoch_24.pth', view='native'))

# FD3D (CVPR 2023) on BEVDepth, R101 at 512x1408 -> R50 at 256x704: BEVDepth has no queries, so the distillation head is
# trained along; areas come from ground truth and from its queries, positions from where these look.
from projects.configs._base_.recipes import fd3d_bevdepth, frozen

_base_ = ['../bevdepth/bevdepth_r50_256x704_2key.py', '../_base_/distill/fd3d.py']

distiller = dict(
    teacher=frozen('projects/configs/bevdepth/bevdepth_r101_512x1408_2key.py', view='native'),
    **fd3d_bevdepth(num_query=900, num_layers=6),
)

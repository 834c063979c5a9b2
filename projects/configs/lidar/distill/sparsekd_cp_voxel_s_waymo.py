# SparseKD: CP-Voxel teaches CP-Voxel-S class logits at pivotal positions and boxes at object centres.
# With label distillation and initialisation (_label_tgi.py) published as 62.23 -> 64.25 L2 mAPH on a fifth of Waymo.
from projects.configs._base_.recipes import sparsekd_voxels

_base_ = ['../centerpoint_voxel_s_waymo.py']

distiller = sparsekd_voxels(pc_range={{_base_.point_cloud_range}}, weight=10.0)

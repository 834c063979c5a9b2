# SparseKD: CP-Voxel teaches CP-Voxel-XXS class logits at pivotal positions and boxes at object centres.
# With label distillation and initialisation (_label_tgi.py) published as 56.26 -> 59.28 L2 mAPH on a fifth of Waymo.
from projects.configs._base_.recipes import sparsekd_voxels

_base_ = ['../centerpoint_voxel_xxs_waymo.py']

distiller = sparsekd_voxels(pc_range={{_base_.point_cloud_range}}, weight=15.0)

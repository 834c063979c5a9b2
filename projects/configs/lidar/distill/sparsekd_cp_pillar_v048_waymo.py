# SparseKD: CP-Pillar teaches CP-Pillar-v0.48 class logits at pivotal positions, looked up in metres on the finer heatmap.
# With label distillation and initialisation (_label_tgi.py) published as 56.27 -> 58.53 L2 mAPH on a fifth of Waymo.
from projects.configs._base_.recipes import sparsekd_pillars

_base_ = ['../centerpoint_pillar_v048_waymo.py']

distiller = sparsekd_pillars(pc_range={{_base_.point_cloud_range}})

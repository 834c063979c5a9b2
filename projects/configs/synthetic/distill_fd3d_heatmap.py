# FD3D together with the heatmap recipe's BEV term.
from projects.configs._base_.recipes import heatmap_l2

_base_ = ['./distill_fd3d.py']

distiller = dict(terms=dict(bev_l2=heatmap_l2(weight=1.0)))

# distill_fd3d_gate.py on the pair for near objects.
from projects.configs._base_.recipes import fd3d_row

_base_ = ['./distill_near_fd3d.py']

distiller = fd3d_row('gate')

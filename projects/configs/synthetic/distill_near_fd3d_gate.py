<<<<<<< HEAD
# distill_fd3d_gate.py on the pair for near objects.
from projects.configs._base_.recipes import fd3d_row

=======
# FD3D ablation: an imperfect teacher: every instance and every query counts as far as the teacher agrees with ground truth.
>>>>>>> main
_base_ = ['./distill_near_fd3d.py']

distiller = fd3d_row('gate')

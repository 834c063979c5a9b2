# distill_fd3d.py on the pair for near objects, whose headings and velocities learn.
from projects.configs._base_.recipes import near_teacher

_base_ = ['./bevformer_near_student.py', '../_base_/distill/fd3d.py']

distiller = dict(
    teacher=near_teacher(),
    terms=dict(pv_generation=dict(connector='resize', background=0.3)),
)

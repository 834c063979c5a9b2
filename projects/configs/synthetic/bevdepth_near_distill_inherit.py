# The pint-sized BEVDepth that starts from what fits of its teacher's head (its last layers; BEV encoder and neck are of other
# widths) and is taught nothing: what these layers alone are worth.
from projects.configs._base_.recipes import bevdepth_near_teacher

_base_ = ['./bevdepth_near_student.py']

distiller = dict(
    type='Distiller', teacher=bevdepth_near_teacher(), initialize=[dict(type='InheritHead')], terms=dict()
)

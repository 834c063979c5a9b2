# The pint-sized DETR3D that starts from its teacher's head and is taught nothing: what the head alone is worth.
from projects.configs._base_.recipes import pint_detr3d

_base_ = ['./detr3d_student.py']

distiller = dict(type='Distiller', teacher=pint_detr3d(), initialize=[dict(type='InheritHead')], terms=dict())

# The pint-sized twin of bevdepth_r101_distill_r50.py. Cells differ in size, so boxes at centre cells are not compared.
from projects.configs._base_.recipes import bevdepth_near_teacher, bevdepth_terms

_base_ = ['./bevdepth_near_student.py']

distiller = dict(
    type='Distiller',
    teacher=bevdepth_near_teacher(),
    terms=bevdepth_terms() | dict(regression=dict(type='CenterRegression', on='heads', weight=0.0)),
)

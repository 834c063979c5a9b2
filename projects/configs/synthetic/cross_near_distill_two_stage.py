# A LiDAR teacher of two stages for the pint-sized BEVFormer of near objects: its refined boxes, for regions and queries.
from projects.configs._base_.recipes import boxes_row, near_two_stage

_base_ = ['./bevformer_near_student.py']

distiller = dict(type='Distiller', teacher=near_two_stage(), **boxes_row())

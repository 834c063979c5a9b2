# A LiDAR teacher of two stages for BEVFormer-small: its refined boxes say where regions are and what queries should find.
from projects.configs._base_.recipes import boxes_row, two_stage_centerpoint

_base_ = ['../bevformer/bevformer_small.py']

distiller = dict(type='Distiller', teacher=two_stage_centerpoint(), **boxes_row())

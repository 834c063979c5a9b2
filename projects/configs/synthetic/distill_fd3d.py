# The scaled-down twin of base_distill_small_fd3d.py. Its levels of image features differ in size, hence the connector.
# Background is imitated a little here, where images are small; at full size it triples what the terms cost.
from projects.configs._base_.recipes import pint_teacher

_base_ = ['./bevformer_student.py', '../_base_/distill/fd3d.py']

distiller = dict(teacher=pint_teacher(), terms=dict(pv_generation=dict(connector='resize', background=0.3)))

# A frozen detector of two stages teaches the same detector of one: its first stage as kitti_distill_same_stage.py has it, at
# all anchors, and each refined box the anchor that made it, which knows nothing of what is mistaken for an object.
from projects.configs._base_.recipes import frozen

_base_ = ['./kitti_self_student.py']

distiller = dict(
    type='Distiller',
    teacher=frozen('projects/configs/synthetic/kitti_two_stage_teacher.py'),
    terms=dict(
        logits=dict(type='DecoupledLogits', on='heads'),
        refined=dict(  # weighed as in kitti_self_all.py
            type='HeadToHead',
            on=dict(student='heads', teacher='second_stage'),
            temperature=2.0,
            box_weight=0.25,
            box_thr=0.7,
        ),
    ),
)

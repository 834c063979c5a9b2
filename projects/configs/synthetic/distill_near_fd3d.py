# distill_fd3d.py on the pair for near objects, whose headings and velocities learn.
_base_ = ['./bevformer_near_student.py', '../_base_/distill/fd3d.py']

distiller = dict(
    teacher=dict(
        type='FrozenTeacher',
        config='projects/configs/synthetic/bevformer_near_teacher.py',
        checkpoint='work_dirs/near/teacher/latest.pth',
        view='native',
    ),
    terms=dict(pv_generation=dict(connector='resize', background=0.3)),
)

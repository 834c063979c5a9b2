# The student starts from the teacher's first channels and is taught nothing: what TGI alone gives.
_base_ = ['./kitti_centerpoint_student.py']

distiller = dict(
    type='Distiller',
    teacher=dict(
        type='FrozenTeacher',
        config='projects/configs/synthetic/kitti_centerpoint_teacher.py',
        checkpoint='work_dirs/kitti_centerpoint_teacher/latest.pth',
        view='same',
    ),
    terms=[],
    initialize=[dict(type='TeacherGuidedInit')],
)

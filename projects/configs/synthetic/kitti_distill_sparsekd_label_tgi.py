# And the student starts from the teacher's first channels: all of SparseKD.
_base_ = ['./kitti_distill_sparsekd_label.py']

distiller = dict(initialize=[dict(type='TeacherGuidedInit')])

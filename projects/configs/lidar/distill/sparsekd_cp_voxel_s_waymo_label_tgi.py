# And the student starts from the teacher's first channels: all of SparseKD.
_base_ = ['./sparsekd_cp_voxel_s_waymo_label.py']

distiller = dict(initialize=[dict(type='TeacherGuidedInit')])

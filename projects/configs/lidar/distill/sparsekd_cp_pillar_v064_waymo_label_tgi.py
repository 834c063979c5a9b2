# And the student, which has the teacher's widths, starts from its weights: all of SparseKD.
_base_ = ['./sparsekd_cp_pillar_v064_waymo_label.py']

distiller = dict(initialize=[dict(type='TeacherGuidedInit')])

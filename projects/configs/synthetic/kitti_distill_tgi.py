# The student starts from the teacher's first channels and is taught nothing: what TGI alone gives.
_base_ = ['./kitti_distill_sparsekd.py']

distiller = dict(terms=[], initialize=[dict(type='TeacherGuidedInit')])

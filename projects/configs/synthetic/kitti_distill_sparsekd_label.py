# And the teacher's sure boxes become targets.
_base_ = ['./kitti_distill_sparsekd.py']

distiller = dict(targets=[dict(type='TeacherLabels', score_thr=0.6)])

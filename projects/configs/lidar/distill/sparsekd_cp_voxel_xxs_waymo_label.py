# And the teacher's boxes above 0.6 become targets.
_base_ = ['./sparsekd_cp_voxel_xxs_waymo.py']

distiller = dict(targets=[dict(type='TeacherLabels', score_thr=0.6)])

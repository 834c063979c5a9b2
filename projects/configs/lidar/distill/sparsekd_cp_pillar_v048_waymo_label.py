# And the teacher's boxes above the limit of their class (Car, Pedestrian, Cyclist) become targets.
_base_ = ['./sparsekd_cp_pillar_v048_waymo.py']

distiller = dict(targets=[dict(type='TeacherLabels', score_thr=[0.6, 0.5, 0.5])])

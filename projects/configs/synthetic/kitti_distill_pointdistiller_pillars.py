# The scaled-down twin of lidar/distill/pointdistiller_pointpillars_kitti_4x.py: on pillars, as published.
_base_ = ['./kitti_distill_pointdistiller.py']

_graph = dict(on='voxels', num_query=512, k=32, width=16, tau=0.5)
distiller = dict(
    terms=[dict(type='LocalGraph', name='local', train_teacher_adapter=False, weight=2.0, **_graph)]
)

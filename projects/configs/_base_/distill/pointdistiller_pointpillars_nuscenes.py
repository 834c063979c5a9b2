# PointDistiller on nuScenes pillars as its recipes inherit it: the 256 cells with the largest activation of the teacher
# on the neck's finest level, K = 128. They add the student.
# Published, every weight is the number of samples per GPU, whatever the temperature: reweighting='none' with compat=True
# gives that.
from projects.configs._base_.recipes import local_graph

distiller = local_graph(
    'projects/configs/lidar/pointpillars_nuscenes.py',
    on='pts_neck.fpn_convs.0',
    num_query=256,
    k=128,
    width=64,
)

# PointDistiller on PointPillars as its recipes inherit it: N = 6000 pillars, K = 128 neighbours and lambda = 2 as published.
# They add the student. The published temperature of 1e-2 on counts gives all the weight to full pillars; here importances
# are relative to the fullest pillar and those of one point still count. The released weights exactly:
# reweighting='counts', tau=1e-2.
from projects.configs._base_.recipes import local_graph

distiller = local_graph(
    'projects/configs/lidar/pointpillars_kitti.py', on='voxels', num_query=6000, k=128, width=32
)

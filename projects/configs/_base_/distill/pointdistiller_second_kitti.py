# PointDistiller on SECOND as its recipes inherit it: the 256 cells with the largest activation of the teacher, in both
# stages of the 2D backbone, K = 256 as its README says. They add the student.
# Published, every weight is the number of samples per GPU, whatever the temperature: reweighting='none' with compat=True
# gives that.
from projects.configs._base_.recipes import local_graph

distiller = local_graph(
    'projects/configs/lidar/second_kitti.py', on='backbone', num_query=256, k=256, width=32
)

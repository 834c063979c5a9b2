# PointDistiller on PointRCNN as its recipes inherit it: the 6000 points with the largest activation of the teacher; of
# each one's 128 edges the largest per channel. They add the student and the width of the adapters.
# Published without effective weights: reweighting='none' is exactly that.
from projects.configs._base_.recipes import local_graph

distiller = local_graph(
    'projects/configs/lidar/point_rcnn_kitti.py', on='points', num_query=6000, k=128, pool=True
)

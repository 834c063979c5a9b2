# A frozen Voxel R-CNN teaches SECOND, its own first stage but for the width of the 2D backbone. Not trained here.
from projects.configs._base_.recipes import cross_stage

_base_ = ['../second_kitti.py']

distiller = cross_stage('projects/configs/lidar/voxel_rcnn_kitti.py')

# PointPillars on labels that Voxel R-CNN mines, which has one label per frame too and places boxes better:
#   tools/create_data.py kitti --root-path DIR --sparse 1 --seed 0
#   tools/self_train.py pointpillars_kitti_sparse_labeller.py --data-root DIR --processes 8
_base_ = ['./pointpillars_kitti_sparse.py']

self_training = dict(labeller='projects/configs/lidar/voxel_rcnn_kitti.py')

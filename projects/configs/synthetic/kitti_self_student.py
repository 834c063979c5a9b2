# The scaled-down PointPillars of kitti_pointpillars_teacher.py, trained as briefly as a student: it teaches itself.
_base_ = ['./kitti_pointpillars_teacher.py']

runner = dict(max_epochs=6)
evaluation = dict(interval=6)

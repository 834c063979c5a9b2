# PointDistiller on cells of a map, as it teaches SECOND; kitti_distill_pointdistiller_pillars.py is the form for pillars.
# The importance of a cell is its largest channel: in the first stage the 256 largest hold 89 % of all objects, in the neck
# those of empty cells are largest. What was tried: benchmarks/kd_gain_lidar_tuning.md.
from projects.configs._base_.recipes import frozen

_base_ = ['./kitti_pointpillars_student_4x.py']

distiller = dict(
    type='Distiller',
    teacher=frozen('projects/configs/synthetic/kitti_pointpillars_teacher.py'),
    terms=[
        # Trained along, both adapters agree on one direction within a dozen steps, and teach nothing more.
        dict(type='LocalGraph', name='local', train_teacher_adapter=False, weight=20.0)
        | dict(on='backbone.blocks.0', channels=48, student_channels=24)
        | dict(num_query=256, k=32, width=64, tau=0.2)
    ],
)

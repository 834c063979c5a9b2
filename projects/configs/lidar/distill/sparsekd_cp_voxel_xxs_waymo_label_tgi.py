# And the student starts from the first channels of CP-Voxel-XS, which sparsekd_cp_voxel_xs_waymo_label_tgi.py trains: all
# of SparseKD.
_base_ = ['./sparsekd_cp_voxel_xxs_waymo_label.py']

distiller = dict(
    initialize=[
        dict(
            type='TeacherGuidedInit',
            source=dict(
                config='projects/configs/lidar/centerpoint_voxel_xs_waymo.py',
                checkpoint='work_dirs/sparsekd_cp_voxel_xs_waymo_label_tgi/latest.pth',
            ),
        )
    ]
)

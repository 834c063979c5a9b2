# CP-Voxel-XS, a student of SparseKD: CP-Voxel-S with three quarters of its 3D widths.
_base_ = ['./centerpoint_voxel_s_waymo.py']

model = dict(
    pts_middle_encoder=dict(
        base_channels=12,
        output_channels=96,
        encoder_channels=((12, 12, 24), (24, 24, 48), (48, 48, 96), (96, 96)),
    ),
    pts_backbone=dict(in_channels=192),
)

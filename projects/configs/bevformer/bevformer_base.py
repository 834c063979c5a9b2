# BEVFormer-base: R101-DCN, 900x1600 images padded to 928x1600, four levels, BEV 200x200, queue of 4.
# Published weights: bevformer_r101_dcn_24ep.pth (BEVFormer; NDS 51.7, mAP 41.6) load strictly.
# Training starts from ckpts/r101_dcn_fcos3d_pretrain.pth.
from projects.configs._base_ import camera

_base_ = [
    '../_base_/models/bevformer.py',
    '../_base_/datasets/nuscenes_temporal.py',
    '../_base_/schedules/adamw_24e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    use_grid_mask=True,
    img_backbone=camera.R101_DCN,
    img_neck=camera.R101_FPN,
    pts_bbox_head=dict(
        bev_h=200,
        bev_w=200,
        num_query=900,
        box_convention='legacy',
        transformer=dict(
            embed_dims=256,
            encoder=dict(num_layers=6, num_levels=4, num_points=8, num_points_in_pillar=4),
            decoder=dict(num_layers=6),
            legacy=['shift', 'rotate_center', 'nearest', 'can_bus'],
        ),
        bbox_coder=dict(max_num=300),
        assigner=dict(cls_weight=2.0, reg_weight=0.25),
    ),
)

load_from = 'ckpts/r101_dcn_fcos3d_pretrain.pth'

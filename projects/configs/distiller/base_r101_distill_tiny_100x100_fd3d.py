# FD3D (CVPR 2023): Base* (plain R101) teaches tiny (published: 39.02 -> 43.09 NDS, 26.87 -> 31.00 mAP, the headline).
# Base* was never published; train it first: tools/dist_train.sh projects/configs/bevformer/bevformer_base_r101.py 8
_base_ = ['../bevformer/bevformer_tiny_100x100.py']

distiller = dict(
    type='Distiller',
    teacher=dict(
        type='FrozenTeacher',
        config='projects/configs/bevformer/bevformer_base_r101.py',
        checkpoint='work_dirs/bevformer_base_r101/epoch_24.pth',
        view='native',
    ),
    initialize=[dict(type='InheritHead')],
    head=dict(init='teacher'),
    terms=dict(
        pv_generation=dict(
            type='MaskedGeneration',
            on='pv',
            region=dict(type='PVArea', source='both'),
            relative=True,
            weight=0.5,
        ),
        bev_generation=dict(
            type='MaskedGeneration',
            on='bev',
            connector='deconv',
            region=dict(type='BEVFootprint', source='both'),
            weight=4.0,
        ),
        bev_focal=dict(type='FocalPositions', on='bev', of='bev_generation', weight=4.0),
    ),
)

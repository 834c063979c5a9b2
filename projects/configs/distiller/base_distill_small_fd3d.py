# FD3D (CVPR 2023): BEVFormer-base teaches FocalDistiller's small (published: 46.26 -> 48.73 NDS, 34.56 -> 37.64 mAP).
# The method was described but never released. Every choice below that the paper's figure and abstract leave open is a
# switch; the files base_distill_small_fd3d_*.py change one each.
_base_ = ['../bevformer/bevformer_small.py']

distiller = dict(
    type='Distiller',
    teacher=dict(
        type='FrozenTeacher',
        config='projects/configs/bevformer/bevformer_base.py',
        checkpoint='ckpts/bevformer_r101_dcn_24ep.pth',
        view='native',
    ),
    initialize=[dict(type='InheritHead')],
    head=dict(init='teacher'),  # "Distillation Head" with "Aligned BEV Queries"
    terms=dict(
        pv_generation=dict(  # "Generative Distillation" on the perspective view
            type='MaskedGeneration',
            on='pv',
            region=dict(type='PVArea', source='both'),
            relative=True,
            weight=0.5,
        ),
        bev_generation=dict(  # "Generative and Focal Distillation" on BEV
            type='MaskedGeneration',
            on='bev',
            connector='deconv',
            region=dict(type='BEVFootprint', source='both'),
            weight=4.0,
        ),
        bev_focal=dict(type='FocalPositions', on='bev', of='bev_generation', weight=4.0),
    ),
)

# Overfit the pint-sized DETR3D to one frame, the shortest proof that geometry, targets and evaluation agree:
#   tools/train.py THIS --data-root FOLDER_WITH_ONE_FRAME
# It is evaluated on the frame that it trains on; an epoch shows the frame 50 times.
_base_ = ['./detr3d_teacher.py']

_frame = dict(
    type={{_base_.dataset_type}},
    data_root={{_base_.data_root}},
    ann_file='nuscenes_infos_temporal_train.pkl',
    pipeline={{_base_.train_pipeline}},
    classes={{_base_.class_names}},
    use_valid_flag=False,
)
_same_frame = dict(ann_file='nuscenes_infos_temporal_train.pkl')
data = dict(
    samples_per_gpu=1,
    train=dict(_delete_=True, type='RepeatDataset', times=50, dataset=_frame),
    val=_same_frame,
    test=_same_frame,
)
lr_config = dict(warmup_iters=20)
runner = dict(max_epochs=8)
evaluation = dict(interval=2)
checkpoint_config = dict(interval=8)

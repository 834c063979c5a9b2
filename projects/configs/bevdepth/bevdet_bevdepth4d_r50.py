# BEVDepth4D of the BEVDet family, ResNet-50, 256x704, two key frames. Published, with CBGS: 36.1 mAP, 48.5 NDS.
# Published weights: see bevdet_bevdepth_r50.py, bevdepth4d-r50. There the earlier map is resampled to the present frame; here
# its features are pooled straight into it.
_base_ = ['./bevdet_bevdepth_r50.py']

model = dict(num_frames=2, train_cfg=dict(code_weights=[1.0] * 10))
data = dict(train=dict(queue_length=2, random_queue=False))

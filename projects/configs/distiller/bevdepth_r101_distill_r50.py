# BEVDepth-R101 at 512x1408 teaches BEVDepth-R50 at 256x704, two key frames: the BEV map where objects are, heatmaps at
# pivotal positions, and boxes at object centres. BEV augmentation reaches the teacher's view as well.
from projects.configs._base_.recipes import bevdepth_terms, frozen

_base_ = ['../bevdepth/bevdepth_r50_256x704_2key.py']

distiller = dict(
    type='Distiller',
    teacher=frozen('projects/configs/bevdepth/bevdepth_r101_512x1408_2key.py', view='native'),
    terms=bevdepth_terms(),
)

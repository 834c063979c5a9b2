# LD (CVPR 2022), mmdet's own, the twin of coco/gfl_r50_ld.py; tools/train.py trains it.
_base_ = ['./coco_gfl_student.py']

model = dict(
    type='KnowledgeDistillationSingleStageDetector',
    teacher_config='projects/configs/synthetic/coco_gfl_teacher.py',
    teacher_ckpt='work_dirs/coco_gfl_teacher/latest.pth',
    bbox_head=dict(
        type='LDHead', loss_ld=dict(type='KnowledgeDistillationKLDivLoss', loss_weight=0.25, T=10)
    ),
)

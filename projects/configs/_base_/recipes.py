"""Parts that recipes compose: their teachers, SparseKD's terms and the rows of FD3D's ablation.

Configs import this module; the values end up in them as if they were written there.
"""

from pathlib import Path

from projects.configs._base_.distill import fd3d


def frozen(config: str, checkpoint: str | None = None, view: str = 'same') -> dict:
    """A teacher that stays as it was trained.

    Args:
        config: its config, from the root of the repository.
        checkpoint: its weights; what training that config leaves in ``work_dirs`` if None.
        view: what it sees, as FrozenTeacher says.
    """
    checkpoint = checkpoint or f'work_dirs/{Path(config).stem}/latest.pth'
    return dict(type='FrozenTeacher', config=config, checkpoint=checkpoint, view=view)


def bevformer_base() -> dict:
    """BEVFormer-base with its published weights, on images of its own size."""
    return frozen(
        'projects/configs/bevformer/bevformer_base.py', 'ckpts/bevformer_r101_dcn_24ep.pth', 'native'
    )


def pint_teacher() -> dict:
    """The pint-sized BEVFormer teacher, trained on synthetic scenes."""
    return frozen('projects/configs/synthetic/bevformer_teacher.py', view='native')


def detr3d_r101() -> dict:
    """DETR3D with its published weights, on images of its own normalisation."""
    return frozen('projects/configs/detr3d/detr3d_r101.py', 'ckpts/detr3d_resnet101.pth', 'native')


def pint_detr3d() -> dict:
    """The pint-sized DETR3D teacher, trained on synthetic scenes."""
    return frozen('projects/configs/synthetic/detr3d_teacher.py', view='native')


def near_teacher() -> dict:
    """The camera teacher for near objects; what it sees of each batch serves all recipes of a seed."""
    teacher = frozen('projects/configs/synthetic/bevformer_near_teacher.py', view='native')
    return teacher | dict(cache_dir='work_dirs/near/seen')


def bevdepth_near_teacher() -> dict:
    """The pint-sized BEVDepth teacher for near objects."""
    return frozen('projects/configs/synthetic/bevdepth_near_teacher.py', view='native')


def centerpoint(kind: str = 'pillar') -> dict:
    """CenterPoint on nuScenes, which sees ten sweeps beside a camera student's images.

    Args:
        kind: 'pillar' or 'voxel'.
    """
    return frozen(f'projects/configs/lidar/centerpoint_{kind}_nuscenes.py', view='native')


def two_stage_centerpoint() -> dict:
    """The same with pillars and a second stage, whose refined boxes are what it detects."""
    return frozen('projects/configs/lidar/two_stage_centerpoint_pillar_nuscenes.py', view='native')


def near_lidar(name: str = 'centerpoint_near_teacher') -> dict:
    """A pint-sized LiDAR teacher for near objects; what it sees of each batch serves all recipes of a seed.

    Args:
        name: of its config: 'centerpoint_near_coarse_teacher' has heads that fit BEVDepth, 'lidarformer_near_teacher' a
            decoder that fits BEVFormer.
    """
    teacher = frozen(f'projects/configs/synthetic/{name}.py', view='native')
    return teacher | dict(cache_dir='work_dirs/near/seen')


def near_two_stage() -> dict:
    """The same with a second stage."""
    config = 'projects/configs/synthetic/centerpoint_near_two_stage_teacher.py'
    return frozen(config, 'work_dirs/near/two_stage/latest.pth', 'native')


def boxes_row() -> dict:
    """What a LiDAR teacher teaches by its final boxes alone, which a second stage has made better than its heatmaps: they say
    where regions are, and what queries should find."""
    row = lidar_row('regions', regions=dict(heat='boxes'))
    row['terms'].update(lidar_row('queries')['terms'])
    return row


def lidar_row(name: str, **terms: dict) -> dict:
    """What a LiDAR teacher teaches a camera student, by the method.

    Args:
        name: 'dense' = imitation on soft foreground (BEVDistill's dense half), 'queries' = boxes for queries (its sparse
            half), 'regions' = DistillBEV, 'keypoints' = UniDistill's and TiG-BEV's points of boxes, 'fd3d' = generation
            where the teacher's boxes or ground truth are, as far as they agree; 'labels' = boxes as labels.
        terms: further settings of terms, by their names.
    """
    bev = dict(on='bev', connector='resize_conv')
    relations = dict(type='BoxKeypoints', on='bev', compare='cosines')
    area = dict(type='BEVFootprint', source='gt_boxes', gate=2.0)
    queries = dict(type='TeacherQueries', on='boxes', weight=1.0)
    rows = dict(
        dense=dict(bev_l2=heatmap_l2(weight=1.0, connector='resize_conv')),
        queries=dict(queries=queries),
        regions=dict(regions=dict(type='RegionBalanced', weight=1.0, attention_weight=0.05, **bev)),
        keypoints=dict(
            keypoints=dict(type='BoxKeypoints', compare='features', weight=1.0, **bev),
            relations=relations | dict(weight=1.0),
        ),
        fd3d=dict(
            bev_generation=dict(type='MaskedGeneration', region=area, weight=4.0, **bev),
            relations=relations | dict(source='gt_boxes', gate=2.0, weight=1.0),
            queries=queries,
        ),
        labels={},
    )
    row = rows[name]
    recipe = dict(terms=row | {term: row.get(term, {}) | more for term, more in terms.items()})
    labels = dict(type='TeacherLabels', score_thr=0.4)
    return recipe | dict(targets=[labels] if name == 'labels' else [])


def fd3d_on_bev() -> dict:
    """FD3D with a teacher that has no images: its head to start from, its queries to say where on BEV."""
    kept = {name: fd3d.distiller['terms'][name] for name in ('bev_generation', 'bev_focal')}
    return fd3d.distiller | dict(terms=kept)


def two_teachers(camera: dict, lidar: dict, row: dict) -> dict:
    """A camera teacher's recipe, whose parts follow the first teacher, and beside it a row of a LiDAR teacher.

    Args:
        camera: the teacher of the recipe that is inherited.
        lidar: the other one.
        row: its terms, see :func:`lidar_row`.
    """
    terms = {f'lidar_{name}': dict(teacher='lidar', **term) for name, term in row['terms'].items()}
    return dict(teacher=dict(_delete_=True, camera=camera, lidar=lidar), terms=terms)


def bevdepth_terms() -> dict:
    """What a detector with centre heads teaches BEVDepth: its BEV map where objects are, how the points of an object relate
    to one another on it (UniDistill's relation term), its heatmaps and its boxes."""
    return dict(
        bev_l2=heatmap_l2(weight=1.0),
        relation=dict(type='BoxKeypoints', on='bev', compare='cosines', weight=1.0),
        logit=dict(type='PivotalLogit', on='heads', mask='gaussian', weight=1.0),
        regression=dict(type='CenterRegression', on='heads', weight=0.2),
    )


def fd3d_bevdepth(**decoder: int) -> dict:
    """What FD3D changes where the teacher has no queries of its own.

    The student starts from what fits of the teacher's head. Weights were chosen among a few on one synthetic world.

    Args:
        decoder: size of the distillation head.
    """
    terms = dict(
        pv_generation=dict(connector='resize_conv'),  # image features of both differ in size
        bev_generation=dict(weight=20.0),
        bev_focal=dict(weight=20.0),
    )
    return dict(head=dict(init='scratch', decoder=decoder), terms=terms)


def local_graph(config: str, **term: object) -> dict:
    """PointDistiller: a teacher and its only term, which students change by the name ``local``."""
    local = dict(type='LocalGraph', tau=0.5, weight=2.0) | term
    return dict(type='Distiller', teacher=frozen(config), terms=dict(local=local))


def sparsekd_pillars(pc_range: object) -> dict:
    """SparseKD on a coarser grid than CP-Pillar's: class logits alone, looked up in metres.

    Args:
        pc_range: what the student's heatmap covers.
    """
    wide = [-74.88, -74.88, -2, 74.88, 74.88, 4]
    logit = _pivotal_logit(pc_range=pc_range, teacher_range=wide, weight=7.0)
    return dict(
        type='Distiller', teacher=frozen('projects/configs/lidar/centerpoint_pillar_waymo.py'), terms=[logit]
    )


def sparsekd_voxels(pc_range: object, weight: float) -> dict:
    """SparseKD on CP-Voxel's grid: class logits at pivotal positions and boxes at object centres.

    Args:
        pc_range: what both heatmaps cover.
        weight: of the logits.
    """
    regression = dict(type='CenterRegression', name='regression', on='heads', pc_range=pc_range, weight=0.2)
    terms = [_pivotal_logit(pc_range=pc_range, weight=weight), regression]
    return dict(
        type='Distiller', teacher=frozen('projects/configs/lidar/centerpoint_voxel_waymo.py'), terms=terms
    )


def _pivotal_logit(**settings: object) -> dict:
    return dict(type='PivotalLogit', name='logit', on='heads', mask='gaussian', **settings)


def heatmap_l2(weight: float, connector: str = 'deconv') -> dict:
    """The heatmap recipe's BEV term; ``'deconv'`` needs hosts that know the sizes of their maps beforehand."""
    region = dict(type='GTHeatmap', min_overlap=0.1)
    return dict(type='FeatureL2', on='bev', connector=connector, region=region, weight=weight)


def fd3d_row(name: str, **terms: dict) -> dict:
    """What one row of FD3D's ablation changes in the recipe, at full size as in its scaled-down twin.

    Args:
        name: of the row, as the files' names end.
        terms: further settings of terms, by their names, where the two sizes differ.
    """
    off = dict(weight=0.0)
    everywhere = dict(
        type='FeatureL2', on='bev', connector='resize', weight=4.0
    )  # as heavy as the focal term
    rows = dict(
        pv=dict(bev_generation=off, bev_focal=off),
        bev=dict(pv_generation=off, bev_focal=off),
        focal=dict(pv_generation=off, bev_generation=off),
        everywhere=_regions_off() | dict(bev_focal=off),
        unfocused=_regions_off() | dict(bev_focal=off, bev_l2=everywhere),
        gate=_regions(gate=2.0) | dict(bev_focal=dict(gate=2.0)),
        generated=dict(
            pv_generation=dict(residual=False),
            bev_generation=dict(connector='deconv', residual=False),
            bev_focal=dict(generated_by='bev_generation'),
        ),
        **{source: _regions(source=source) for source in ('gt', 'positives', 'queries')},
    )
    row = rows[name]
    return dict(terms=row | {term: row.get(term, {}) | more for term, more in terms.items()})


def _regions_off() -> dict:
    return {term: dict(region=None) for term in ('pv_generation', 'bev_generation')}


def _regions(**settings: object) -> dict:
    return {term: dict(region=settings) for term in ('pv_generation', 'bev_generation')}


# Boxes count less than classes: where the student has memorised an object, refined boxes are the noisier ones.
_REFINED = dict(temperature=2.0, box_weight=0.25, box_thr=0.7)


def cross_stage(teacher: str) -> dict:
    """A frozen detector of two stages teaches one of its first stage: its first stage at all anchors, and each refined box the
    anchor that made it, which knows nothing of what is mistaken for an object.

    Args:
        teacher: its config.
    """
    refined = dict(type='HeadToHead', on=dict(student='heads', teacher='second_stage'), **_REFINED)
    terms = dict(logits=dict(type='DecoupledLogits', on='heads'), refined=refined)
    return dict(type='Distiller', teacher=frozen(teacher), terms=terms)


def self_taught(row: str, epochs: int, roi_head: dict) -> dict:
    """Voxel self-distillation: a second stage, and sub-heads, that are trained beside a one-stage detector and teach it.

    Rows: 'all'; the runs of the original log as it meant them: 'temperature' (classes by softmax, T = 2), 'roi' (one head
    without classes), 'subheads' (and sub-heads on the map before the backbone), 'decoupled' (target and other classes
    apart); and what tells them from their parts: 'cotrain' (the second stage alone, no distillation), 'stopped'
    (distillation alone, from a second stage that sends nothing back), 'deep' (sub-heads alone).

    Args:
        row: which.
        epochs: of the training. The weight of sub-heads rises from 0 over all of it, that of what the second stage teaches over
            the first quarter.
        roi_head: config of the second stage.
    """
    heads = dict(type='HeadToHead', on=dict(student='heads', teacher='second_stage'), box_weight=0.0)
    heads |= dict(
        schedule=[(0, 0.0), (epochs / 4, 1.0)]
    )  # a second stage that knows nothing yet would only disturb
    sub = dict(type='SubHead', on=dict(student='scatter', teacher='heads'))
    sub |= dict(weight=2.0, schedule=[(0, 0.0), (epochs, 1.0)])
    taught = dict(sub, logits=dict(temperature=2.0))
    best = heads | _REFINED
    terms = dict(
        all=dict(heads=best, sub_head=taught),
        temperature=dict(heads=dict(heads, form='softmax', temperature=2.0)),
        roi=dict(heads=heads),
        subheads=dict(heads=heads, sub_head=sub),
        decoupled=dict(heads=dict(heads, alpha=1.0, beta=0.5, score_thr=0.1), sub_head=taught),
        cotrain=dict(),
        stopped=dict(heads=best),
        deep=dict(sub_head=taught),
    )[row]
    if row == 'temperature':
        roi_head = dict(roi_head, class_branch=True)
    head = dict(type='SecondStage', roi_head=roi_head, teach_backbone=row != 'stopped')
    recipe = dict(type='Distiller', teacher=dict(type='SelfTeacher'), terms=terms)
    return recipe if row == 'deep' else dict(recipe, head=head)

"""What can be compared: pairs of teacher and student, the recipes between them, and the worlds they live in.

Another family is another entry of ``FAMILIES``; nothing else has to change.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from projects.mmdet3d_plugin.studies.training_run import DISTIL, SELF_TRAIN, TRAIN

CONFIGS = 'projects/configs/synthetic'


@dataclass(frozen=True)
class Row:
    """One way of training.

    Attributes:
        name: how ``--rows`` calls it.
        title: for people.
        config: what is trained.
        tool: script that trains it.
        minutes: about how long that takes at ``--scale cpu`` with the epochs of a student; only ratios matter.
        goal: what it should gain over the student alone, or where the pair says so beyond the inherited head, in points
            of the first metric.
        goes_on: the setting that takes the checkpoint of the student alone, of the same seed, where a row goes on from it.
    """

    name: str
    title: str
    config: str
    tool: str = DISTIL
    minutes: float = 9.0
    goal: float | None = None
    goes_on: str | None = None


@dataclass(frozen=True)
class Recipes:
    """Recipes whose files are called after their rows.

    Attributes:
        path: of a recipe, ``{}`` for its name.
    """

    path: str

    def row(self, name: str, title: str, **settings: Any) -> Row:
        """The row of one of them; ``settings`` as in :class:`Row`."""
        return Row(name, title, self.path.format(name), **settings)


@dataclass(frozen=True)
class Pair:
    """A teacher, a student, and the recipes between them.

    Attributes:
        teacher: trained once per world.
        student: trained alone; what gains are counted over.
        rows: recipes that train the same student.
        inherit: the row that starts from the teacher's head and is taught nothing, if there is one.
        goals_beyond_head: goals count over the row ``inherit``, not over the student alone.
        rivals: (better, worse) rows: the first should gain more, with ranges over seeds apart.
        leads: (better, worse) -> by how many points on the mean, where that has a goal too.
        lowers: (row, other, key of a metric): the first should have less of it, on the mean over seeds.
        best_of: a name that ``rivals``, ``leads`` and ``lowers`` may use -> rows; it stands for the one with the best mean.
        least_gap: what the teacher should lead the student by, else the pair tells nothing.
        others: further teachers, trained once per world where a row that was asked for is taught by them.
    """

    teacher: Row
    student: Row
    rows: tuple[Row, ...]
    inherit: str | None = None
    goals_beyond_head: bool = False
    rivals: tuple[tuple[str, str], ...] = ()
    leads: Mapping[tuple[str, str], float] = field(default_factory=dict)
    lowers: tuple[tuple[str, str, str], ...] = ()
    best_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    least_gap: float | None = None
    others: tuple[Row, ...] = ()

    @property
    def teachers(self) -> tuple[Row, ...]:
        """All of them, the main one first."""
        return (self.teacher, *self.others)

    @property
    def known(self) -> tuple[Row, ...]:
        """The student alone, and the recipes."""
        return (self.student, *self.rows)


@dataclass(frozen=True)
class Metric:
    """A figure of an evaluation.

    Attributes:
        key: its name in ``metrics.json``.
        title: for tables.
        scale: what it is multiplied with.
        digits: behind the point.
    """

    key: str
    title: str
    scale: float = 1.0
    digits: int = 3

    def format(self, value: float) -> str:
        """A scaled value as tables show it."""
        return f'{value:.{self.digits}f}'


@dataclass(frozen=True)
class Scale:
    """How much of everything.

    Attributes:
        scenes: of the world; the last fifth is for validation.
        frames: per scene.
        size: WIDTHxHEIGHT of the images.
        epochs: of every student.
        teacher_epochs: of the teacher.
        seeds: of the students.
        device: where to compute.
        jobs: how many commands run at a time; as many as there are cores by default.
        overrides: settings of all trainings, ``key=value``.
    """

    scenes: int
    frames: int
    size: str
    epochs: int
    teacher_epochs: int
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = 'cpu'
    jobs: int | None = None
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class WorldRecipe:
    """How a synthetic world is made; ``{world}``, ``{scenes}``, ``{frames}``, ``{size}`` and ``{seed}`` are filled in.

    Attributes:
        make: the command that makes it.
        made: a file, relative to the world, that is there afterwards.
        convert: the command that makes its info files; '' for a world that is made with them.
        infos: these files, relative to the world.
        shown: what a world is, in words.
    """

    make: str
    made: str
    convert: str
    infos: tuple[str, ...]
    shown: str = '{scenes} scenes of {frames} frames of {size}, seed {seed}'


@dataclass(frozen=True)
class Family:
    """Detectors that see the same data and are judged by the same metrics.

    Attributes:
        name: how ``--family`` calls it.
        pairs: of teacher and student.
        metrics: the first is what gains are counted in.
        world: how its worlds are made.
        scales: by name.
        recipe: path of a recipe that ``--rows`` calls by a name which is no row of a pair.
        pictures: kinds that ``tools/visualize.py`` draws for the report.
        closeness: whether the report shows where on the map students came closer to their teacher.
    """

    name: str
    pairs: tuple[Pair, ...]
    metrics: tuple[Metric, ...]
    world: WorldRecipe
    scales: Mapping[str, Scale]
    recipe: str
    pictures: tuple[str, ...] = ('overview',)
    closeness: bool = False

    @property
    def headline(self) -> Metric:
        """What gains are counted in."""
        return self.metrics[0]


NUSCENES_METRICS = (
    Metric('NDS', 'NDS', 100.0, 2),
    Metric('mAP', 'mAP', 100.0, 2),
    *(Metric(name, name) for name in ('mATE', 'mASE', 'mAOE', 'mAVE', 'mAAE')),
)
NUSCENES_WORLD = WorldRecipe(
    make='tools/create_synthetic.py --out {world} --scenes {scenes} --seed {seed} --size {size} --frames {frames}',
    made='v1.0-trainval/sample.json',
    convert='tools/create_data.py nuscenes --root-path {world} --version v1.0-trainval',
    infos=('nuscenes_infos_temporal_train.pkl', 'nuscenes_infos_temporal_val.pkl'),
)

_camera = Recipes(f'{CONFIGS}/distill_{{}}.py')
_near = Recipes(f'{CONFIGS}/distill_near_{{}}.py')
_cross = Recipes(f'{CONFIGS}/cross_near_distill_{{}}.py')
_bevdepth = Recipes(f'{CONFIGS}/bevdepth_near_distill_{{}}.py')
_detr3d = Recipes(f'{CONFIGS}/detr3d_distill_{{}}.py')
_lidar = Recipes(f'{CONFIGS}/kitti_distill_{{}}.py')
_sparse = Recipes(f'{CONFIGS}/kitti_sparse_{{}}.py')
_self = Recipes(f'{CONFIGS}/kitti_self_{{}}.py')
_mmdet2d = Recipes(f'{CONFIGS}/coco_distill_{{}}.py')

CAMERA = Family(
    name='camera',
    pairs=(
        Pair(
            teacher=Row('teacher', 'teacher', f'{CONFIGS}/bevformer_teacher.py', TRAIN, 8.2),
            student=Row('none', 'student alone', f'{CONFIGS}/bevformer_student.py', TRAIN, 4.2),
            rows=(
                _camera.row('inherit', 'inherited head only', minutes=4.5),
                _camera.row('heatmap', 'heatmap recipe', goal=2.15),
                _camera.row('fd3d', 'FD3D', minutes=10.0, goal=4.07),
            ),
            inherit='inherit',
            rivals=(('fd3d', 'heatmap'),),
            least_gap=8.0,
        ),
    ),
    metrics=NUSCENES_METRICS,
    world=NUSCENES_WORLD,
    scales={
        'cpu': Scale(
            scenes=300,
            frames=5,
            size='320x180',
            epochs=2,
            teacher_epochs=4,
            overrides=('lr_config.by_epoch=False',),
        ),
        'gpu': Scale(
            scenes=800,
            frames=8,
            size='320x180',
            epochs=2,
            teacher_epochs=4,
            device='cuda',
            jobs=8,
            overrides=('data.samples_per_gpu=4', 'data.workers_per_gpu=1', 'lr_config.by_epoch=False'),
        ),
    },
    recipe=_camera.path,
)

# Objects are near and slow, so that a pint-sized pair learns headings and velocities too: there is more to teach.
NEAR = Family(
    name='near',
    pairs=(
        Pair(
            teacher=Row('teacher', 'teacher', f'{CONFIGS}/bevformer_near_teacher.py', TRAIN, 12.0),
            student=Row('none', 'student alone', f'{CONFIGS}/bevformer_near_student.py', TRAIN, 7.5),
            rows=(
                _near.row('inherit', 'inherited head only', minutes=7.5),
                _near.row('heatmap', 'heatmap recipe', goal=2.15),
                _near.row('fd3d_everywhere', 'generation everywhere, as MGD'),
                _near.row('fd3d_unfocused', 'FD3D without focus', minutes=10.0),
                _near.row('fd3d', 'FD3D', minutes=10.0, goal=4.07),
                _near.row('fd3d_gate', 'FD3D with gate', minutes=10.0),
                _near.row('fd3d_pv', 'FD3D, images alone', minutes=10.0),
                _near.row('fd3d_bev', 'FD3D, BEV alone', minutes=10.0),
                _near.row('fd3d_focal', 'FD3D, focal alone', minutes=10.0),
            ),
            inherit='inherit',
            goals_beyond_head=True,
            rivals=(('fd3d', 'heatmap'), ('fd3d', 'fd3d_everywhere'), ('fd3d', 'fd3d_unfocused')),
            leads={('fd3d', 'heatmap'): 1.0},
            least_gap=8.0,
        ),
    ),
    metrics=NUSCENES_METRICS,
    world=replace(
        NUSCENES_WORLD,
        make=f'{NUSCENES_WORLD.make} --reach 18 --pace 0.5',
        shown='{scenes} scenes of {frames} frames of {size}, reach 18 m, half the pace, seed {seed}',
    ),
    scales={
        'cpu': Scale(scenes=300, frames=5, size='320x180', epochs=2, teacher_epochs=3),
        'gpu': Scale(
            scenes=700,
            frames=8,
            size='320x180',
            epochs=2,
            teacher_epochs=4,
            device='cuda',
            jobs=8,
            overrides=('data.samples_per_gpu=4', 'data.workers_per_gpu=1'),
        ),
    },
    recipe=_near.path,
    closeness=True,
)

# BEVDepth's world is that of NEAR; its scenes have the points that depth is learnt from.
BEVDEPTH = replace(
    NEAR,
    name='bevdepth',
    pairs=(
        Pair(
            teacher=Row('teacher', 'teacher', f'{CONFIGS}/bevdepth_near_teacher.py', TRAIN, 14.0),
            student=Row('none', 'student alone', f'{CONFIGS}/bevdepth_near_student.py', TRAIN, 5.0),
            rows=(
                _bevdepth.row('inherit', 'inherited head, as far as it fits', minutes=5.5),
                _bevdepth.row('features', 'plain imitation'),
                _bevdepth.row('heads', 'BEV map and heatmaps'),
                _bevdepth.row('fd3d', 'FD3D', goal=2.0),
            ),
            inherit='inherit',
            rivals=(('fd3d', 'features'),),
        ),
    ),
    recipe=_bevdepth.path,
    closeness=False,
)

# Two students that learn from LiDAR, on the world of NEAR: from its points, from a camera teacher, and from both.
CROSS = replace(
    NEAR,
    name='cross',
    pairs=(
        Pair(
            teacher=Row('lidar', 'LiDAR teacher', f'{CONFIGS}/centerpoint_near_teacher.py', TRAIN, 8.0),
            others=(
                Row('camera', 'camera teacher', f'{CONFIGS}/bevformer_near_teacher.py', TRAIN, 12.0),
                Row('lidarformer', 'LidarFormer', f'{CONFIGS}/lidarformer_near_teacher.py', TRAIN, 8.0),
            ),
            student=Row('none', 'student alone', f'{CONFIGS}/bevformer_near_student.py', TRAIN, 7.5),
            rows=(
                Row('inherit', "camera teacher's head alone", _near.path.format('inherit'), minutes=7.5),
                Row('fd3d', 'camera teacher, FD3D', _near.path.format('fd3d'), minutes=10.0),
                _cross.row('dense', 'soft foreground'),
                _cross.row('queries', 'boxes for queries'),
                _cross.row('regions', 'regions'),
                _cross.row('keypoints', 'points of boxes'),
                _cross.row('labels', 'boxes as labels'),
                _cross.row('fd3d_lidar', 'FD3D from LiDAR'),
                _cross.row('lidar_inherit', "points of boxes, camera teacher's head"),
                _cross.row('lidarformer_inherit', "LidarFormer's head alone", minutes=7.5),
                _cross.row('lidarformer_regions', 'regions from LidarFormer'),
                _cross.row('lidarformer_fd3d', 'FD3D from LidarFormer'),
                _cross.row('both', 'camera and LiDAR', minutes=12.0),
            ),
            best_of={
                'lidar': (
                    *('dense', 'queries', 'regions', 'keypoints', 'labels', 'fd3d_lidar'),
                    *('lidarformer_regions', 'lidarformer_fd3d'),
                )
            },
            rivals=(
                ('lidar', 'fd3d'),
                ('lidar_inherit', 'fd3d'),
                ('lidarformer_regions', 'lidarformer_inherit'),
                ('lidarformer_fd3d', 'lidarformer_inherit'),
                ('both', 'fd3d'),
                ('both', 'lidar'),
            ),
            leads={('lidar', 'fd3d'): 1.0},
            lowers=(('lidar', 'fd3d', 'mATE'),),
            least_gap=8.0,
        ),
        Pair(
            teacher=Row(
                'lidar_bevdepth', 'LiDAR teacher', f'{CONFIGS}/centerpoint_near_teacher.py', TRAIN, 8.0
            ),
            student=Row(
                'bevdepth_none', 'BEVDepth student alone', f'{CONFIGS}/bevdepth_near_student.py', TRAIN, 5.0
            ),
            others=(
                Row(
                    'lidar_coarse',
                    "LiDAR teacher with BEVDepth's cells",
                    f'{CONFIGS}/centerpoint_near_coarse_teacher.py',
                    TRAIN,
                    9.0,
                ),
            ),
            rows=(
                _cross.row('bevdepth_regions', 'BEVDepth, regions', goal=2.0),
                _cross.row('bevdepth_keypoints', 'BEVDepth, points of boxes'),
                _cross.row('bevdepth_inherit', "BEVDepth, LiDAR teacher's head alone"),
                _cross.row('bevdepth_inherit_regions', 'BEVDepth, regions and head', goal=2.0),
            ),
            rivals=(('bevdepth_inherit_regions', 'bevdepth_inherit'),),
        ),
    ),
    recipe=_cross.path,
    closeness=False,
)

DETR3D = replace(
    CAMERA,
    name='detr3d',
    pairs=(
        Pair(
            teacher=Row('teacher', 'DETR3D teacher', f'{CONFIGS}/detr3d_teacher.py', TRAIN, 4.0),
            student=Row('none', 'DETR3D student alone', f'{CONFIGS}/detr3d_student.py', TRAIN, 2.0),
            rows=(
                _detr3d.row('inherit', 'inherited head only', minutes=2.2),
                _detr3d.row('cwd', 'plain imitation of image features', minutes=3.5),
                _detr3d.row('fd3d', 'FD3D', minutes=5.0, goal=3.17),
            ),
            inherit='inherit',
            rivals=(('fd3d', 'cwd'),),
            least_gap=6.0,
        ),
    ),
    recipe=_detr3d.path,
)

LIDAR = Family(
    name='lidar',
    pairs=(
        Pair(
            teacher=Row(
                'pointpillars', 'PointPillars', f'{CONFIGS}/kitti_pointpillars_teacher.py', TRAIN, 2.9
            ),
            student=Row(
                'pointpillars_4x',
                'PointPillars 4x alone',
                f'{CONFIGS}/kitti_pointpillars_student_4x.py',
                TRAIN,
                1.5,
            ),
            rows=(
                _lidar.row('pointdistiller', 'PointDistiller', minutes=2.6, goal=3.4),
                _lidar.row('pointdistiller_pillars', 'PointDistiller on pillars', minutes=2.6),
            ),
            least_gap=8.0,
        ),
        Pair(
            teacher=Row('centerpoint', 'CenterPoint', f'{CONFIGS}/kitti_centerpoint_teacher.py', TRAIN, 3.3),
            student=Row(
                'centerpoint_half',
                'CenterPoint half alone',
                f'{CONFIGS}/kitti_centerpoint_student.py',
                TRAIN,
                1.7,
            ),
            rows=(
                _lidar.row('tgi', 'TGI alone', minutes=1.7),
                _lidar.row('sparsekd', 'SparseKD logit', minutes=2.6),
                _lidar.row('sparsekd_label', 'SparseKD logit + label', minutes=2.6),
                _lidar.row('sparsekd_label_tgi', 'SparseKD logit + label + TGI', minutes=2.6, goal=2.0),
            ),
            least_gap=8.0,
        ),
    ),
    metrics=(
        Metric('mAP_3d_R40_moderate', '3D mAP R40 moderate', 100.0, 2),
        *(Metric(f'AP_3d_R40_moderate/{name}', name, 100.0, 2) for name in ('Car', 'Pedestrian', 'Cyclist')),
    ),
    world=WorldRecipe(
        make='tools/create_synthetic.py --format kitti --out {world} --scenes {scenes} --seed {seed}',
        made='synthetic_world.json',
        convert='tools/create_data.py kitti --root-path {world}',
        infos=('kitti_infos_train.pkl', 'kitti_infos_val.pkl'),
        shown='{scenes} frames, seed {seed}',
    ),
    scales={
        'cpu': Scale(scenes=400, frames=1, size='', epochs=6, teacher_epochs=10),
        'gpu': Scale(scenes=2000, frames=1, size='', epochs=24, teacher_epochs=48, device='cuda', jobs=8),
    },
    recipe=_lidar.path,
    pictures=(),
)

_MINED: dict[str, Any] = dict(tool=SELF_TRAIN, goes_on='self_training.pretrained')
SPARSE = Family(
    name='sparse',
    pairs=(
        Pair(
            teacher=_sparse.row('full', 'all labels', tool=TRAIN, minutes=3.0),
            student=Row('labels', 'few labels alone', f'{CONFIGS}/kitti_sparse.py', TRAIN, 3.0),
            rows=(
                _sparse.row('removal', 'removal only', **_MINED, minutes=4.5),
                _sparse.row('original', "SS3D's fixed thresholds", **_MINED, minutes=9.0),
                _sparse.row('bank1', 'first bank', **_MINED, minutes=4.5),
                _sparse.row('bank2', 'second bank', **_MINED, minutes=9.0, goal=5.0),
                _sparse.row('labeller', 'second bank, by a labeller', **_MINED, minutes=17.0, goal=5.0),
                _sparse.row('online', 'mining within the step', goes_on='load_from', minutes=4.5),
            ),
            rivals=(
                ('bank2', 'original'),
                ('bank2', 'removal'),
                ('labeller', 'original'),
                ('labeller', 'removal'),
            ),
            leads={('bank2', 'removal'): 3.0, ('labeller', 'removal'): 3.0},
            least_gap=10.0,
        ),
    ),
    metrics=LIDAR.metrics,
    world=WorldRecipe(
        make=LIDAR.world.make,
        made=LIDAR.world.made,
        convert='tools/create_data.py kitti --root-path {world} --sparse 1 --every 3 --seed 0 --area 0 -17.92 35.84 17.92',
        infos=(*LIDAR.world.infos, 'kitti_sparse1_every3_s0.json'),
        shown='{scenes} frames, seed {seed}, one label in every third frame',
    ),
    scales={
        'cpu': Scale(scenes=400, frames=1, size='', epochs=6, teacher_epochs=6),
        'gpu': Scale(scenes=2000, frames=1, size='', epochs=24, teacher_epochs=24, device='cuda', jobs=8),
    },
    recipe=_sparse.path,
    pictures=(),
)

# The teacher is a row of its own, the detector kept whole with both stages: no recipe reads its weights, since each trains
# its second stage along. It says how far a first stage could come.
SELF = replace(
    LIDAR,
    name='self',
    pairs=(
        Pair(
            teacher=Row('two_stage', 'both stages', f'{CONFIGS}/kitti_two_stage_teacher.py', TRAIN, 4.5),
            student=Row('none', 'first stage alone', f'{CONFIGS}/kitti_self_student.py', TRAIN, 2.9),
            rows=(
                _self.row('cotrain', 'second stage trained along, no distillation', minutes=4.5),
                _self.row('stopped', 'distillation alone', minutes=4.5),
                _self.row('deep', 'sub-heads alone', minutes=3.5),
                _self.row('temperature', 'classes by softmax at T = 2', minutes=4.5),
                _self.row('decoupled', 'target and other classes apart, sub-heads', minutes=5.0),
                _self.row('all', 'everything on', minutes=5.0, goal=4.0),
            ),
            rivals=(('all', 'cotrain'),),
            leads={('all', 'cotrain'): 1.5},
            least_gap=5.0,
        ),
    ),
    scales={name: replace(scale, teacher_epochs=scale.epochs) for name, scale in LIDAR.scales.items()},
    recipe=_self.path,
)

# The student of SELF under frozen teachers that were trained longer: is one with a second stage worth more than one without?
CROSS_STAGE = replace(
    LIDAR,
    name='cross_stage',
    pairs=(
        Pair(
            teacher=SELF.pairs[0].teacher,
            others=(Row('one_stage', 'first stage', f'{CONFIGS}/kitti_pointpillars_teacher.py', TRAIN, 2.9),),
            student=SELF.pairs[0].student,
            rows=(
                _lidar.row('same_stage', 'taught by the teacher of one stage', minutes=4.0),
                _lidar.row('cross_stage', 'taught by the teacher of two stages', minutes=4.5),
            ),
            rivals=(('cross_stage', 'same_stage'),),
            least_gap=5.0,
        ),
    ),
)

MMDET2D = Family(
    name='mmdet2d',
    pairs=(
        Pair(
            teacher=Row('teacher', 'GFL', f'{CONFIGS}/coco_gfl_teacher.py', TRAIN, 5.0),
            student=Row('none', 'GFL half alone', f'{CONFIGS}/coco_gfl_student.py', TRAIN, 3.0),
            rows=(
                _mmdet2d.row('inherit', 'inherited head only', minutes=3.0),
                _mmdet2d.row('cwd', 'CWD on image features', minutes=4.5),
                _mmdet2d.row('fd3d', "FD3D's areas and generation", minutes=5.0, goal=1.0),
            ),
            inherit='inherit',
            rivals=(('fd3d', 'cwd'),),
            least_gap=4.0,
        ),
    ),
    metrics=(
        Metric('mAP', 'box AP', 100.0, 2),
        *(Metric(f'mAP_{part}', f'AP {part}', 100.0, 2) for part in ('50', '75')),
    ),
    world=WorldRecipe(
        make='tools/create_synthetic.py --format coco --out {world} --scenes {scenes} --seed {seed} --size {size} '
        '--frames {frames}',
        made='synthetic_world.json',
        convert='',
        infos=('annotations/instances_train2017.json', 'annotations/instances_val2017.json'),
        shown='{scenes} scenes of {frames} frames with six {size} images, seed {seed}',
    ),
    scales={
        'cpu': Scale(scenes=160, frames=3, size='256x160', epochs=3, teacher_epochs=8),
        'gpu': Scale(
            scenes=800,
            frames=3,
            size='256x160',
            epochs=12,
            teacher_epochs=24,
            device='cuda',
            jobs=8,
            overrides=('data.workers_per_gpu=1',),
        ),
    },
    recipe=_mmdet2d.path,
    pictures=(),
)

FAMILIES = {
    family.name: family
    for family in (CAMERA, NEAR, DETR3D, BEVDEPTH, CROSS, LIDAR, SELF, CROSS_STAGE, SPARSE, MMDET2D)
}

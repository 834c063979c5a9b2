"""What every benchmark can be told. Each function reads a command line, or ends the program with the usage."""

import argparse
from pathlib import Path

from projects.mmdet3d_plugin.command_line.parsers import Words, override_text, parse_size, size_text

ROOT = Path(__file__).resolve().parents[2]
ATTENTION_MODELS = ('base', 'focal-small', 'small', 'tiny')
ATTENTION_CALLS = ('TSA', 'SCA', 'decoder')
ATTENTION_MODES = ('forward', 'both', 'fused forward', 'fused both')
DTYPES = ('fp32', 'bf16', 'fp16')
LOOK_UP_MODELS = ('928x1600', '480x800')
POOLING_SHAPES = ('256x704', '512x1408')
LAYERS = (
    'base, value', 'base, feed-forward in', 'base, feed-forward out', 'base, temporal offsets', 'small, value',
    'FD-small, value', 'tiny, value', 'tiny, feed-forward out', 'decoder, output',
)  # fmt: skip
TRAINED = ('student', 'teacher')
DEPLOYED = tuple(
    f'projects/configs/synthetic/{name}.py'
    for name in (
        'bevformer_near_student',
        'detr3d_student',
        'bevdepth_near_student',
        'kitti_pointpillars_student_4x',
        'kitti_centerpoint_student',
    )
)
CAMERAS, IMAGE_SIZE = 6, (1600, 900)


def make_parser(description: str, rounds: int, cuda: bool = True) -> argparse.ArgumentParser:
    """A command line with what benchmarks have in common.

    Args:
        description: one line.
        rounds: how often things are timed unless ``--rounds`` says otherwise.
        cuda: whether it runs on a GPU too.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('--rounds', type=_positive, default=rounds, help='how often things are timed')
    parser.add_argument('--threads', type=_positive, default=1)
    parser.add_argument('--device', choices=('cpu', 'cuda') if cuda else ('cpu',), default='cpu')
    parser.add_argument('--json', help='write the report to this file')
    return parser


def parse_deploy(argv: Words = None) -> argparse.Namespace:
    """deploy.py."""
    parser = make_parser(
        'What an exported detector costs and finds: torch, torch.compile, onnxruntime, and onnxruntime with int8 '
        'convolutions.',
        rounds=9,
        cuda=False,
    )
    parser.add_argument('--configs', nargs='*', default=DEPLOYED, metavar='CONFIG')
    parser.add_argument('--accuracy', nargs=3, metavar=('CONFIG', 'CHECKPOINT', 'DATA_ROOT'))
    parser.add_argument('--no-compile', action='store_true', help='leave torch.compile out')
    return parser.parse_args(argv)


def parse_distill_step(argv: Words = None) -> argparse.Namespace:
    """distill_step.py."""
    parser = make_parser(
        "Time a recipe's distillation step against its teacher and its student alone, and every term by itself.",
        rounds=1,
    )
    parser.add_argument('--recipe', default='projects/configs/distiller/base_distill_small_fd3d.py')
    parser.add_argument(
        '--per-term', action='store_true', help='only the terms, on noise of the right shapes'
    )
    parser.add_argument(
        '--queries', type=_positive, default=100, help='how many queries the teacher is sure of'
    )
    parser.add_argument('--term-rounds', type=_positive, default=3, help='timed rounds of every term')
    return parser.parse_args(argv)


def parse_gather_maps(argv: Words = None) -> argparse.Namespace:
    """gather_maps.py."""
    parser = argparse.ArgumentParser(
        description="Time DETR3D's look-ups in image features: ours, plain torch and the way of the original, in one process."
    )
    parser.add_argument('--models', nargs='+', choices=LOOK_UP_MODELS, default=list(LOOK_UP_MODELS))
    parser.add_argument('--layers', type=_positive, default=6, help='of the decoder')
    parser.add_argument('--rounds', type=_positive, default=3)
    parser.add_argument('--json', help='write the report here')
    return parser.parse_args(argv)


def parse_kd_gain(argv: Words = None) -> argparse.Namespace:
    """kd_gain.py; what is left out comes from the scale of the family."""
    parser = argparse.ArgumentParser(
        description='What distillation gains: a teacher, the student alone, with the inherited head only, and taught by each recipe.'
    )
    parser.add_argument(
        '--family', default='camera', help='camera by default; an unknown one is answered with all'
    )
    parser.add_argument(
        '--rows',
        type=_words,
        default=(),
        help='names or recipe files, with commas; the whole table by default',
    )
    parser.add_argument('--scale', choices=('cpu', 'gpu'), default='cpu', help='how much of everything')
    parser.add_argument('--seeds', type=_numbers, help='of the students, with commas: 0,1,2')
    parser.add_argument(
        '--world-seed', type=int, default=0, help="of the world and of the teacher's training"
    )
    parser.add_argument('--world', type=from_root, metavar='DIR', help='use this finished world')
    parser.add_argument('--teacher', type=from_root, metavar='CKPT', help='use this trained teacher')
    parser.add_argument(
        '--out', type=from_root, help='where everything goes; work_dirs/kd_gain/... by default'
    )
    parser.add_argument('--json', metavar='FILE', help='write the figures to this file')
    parser.add_argument('--jobs', type=_positive, help='trainings that run at a time, each on one thread')
    parser.add_argument(
        '--max-minutes',
        type=float,
        help='stop after these, to go on from the last checkpoints when run again',
    )
    parser.add_argument('--scenes', type=_positive, help='of the world; the last fifth is for validation')
    parser.add_argument('--frames', type=_positive, help='keyframes per scene')
    parser.add_argument('--size', type=size_text, help='WIDTHxHEIGHT of the images')
    parser.add_argument('--epochs', type=_positive, help='of every student')
    parser.add_argument('--teacher-epochs', type=_positive, help='of the teacher')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        type=override_text,
        default=[],
        metavar='KEY=VALUE',
        help='override settings of all trainings',
    )
    return parser.parse_args(argv)


def parse_kd_losses(argv: Words = None) -> argparse.Namespace:
    """kd_losses.py."""
    parser = make_parser(
        'Time the dense distillation losses, forward and backward, against the same formulas in plain torch, in one process.',
        rounds=9,
    )
    parser.add_argument(
        '--shape', type=_positive, nargs=4, default=(1, 256, 200, 200), metavar=('N', 'C', 'H', 'W')
    )
    return parser.parse_args(argv)


def parse_kitti_eval(argv: Words = None) -> argparse.Namespace:
    """kitti_eval.py."""
    parser = argparse.ArgumentParser(
        description="Time KITTI's evaluation on CPU, on as many frames as its validation split has."
    )
    parser.add_argument('--frames', type=_positive, default=3769)
    parser.add_argument('--labels', type=_positive, default=5, help='labels per frame')
    parser.add_argument('--detections', type=_positive, default=50, help='detections per frame')
    parser.add_argument('--mmdet3d', action='store_true', help='compare with its evaluation')
    parser.add_argument('--json', help='write the report to this file')
    return parser.parse_args(argv)


def parse_lift_splat(argv: Words = None) -> argparse.Namespace:
    """lift_splat.py."""
    parser = make_parser(
        "Time lift-splat pooling and its geometry against the original's way, at the real shapes, in one process.",
        rounds=9,
    )
    parser.add_argument('--shapes', nargs='+', choices=POOLING_SHAPES, default=list(POOLING_SHAPES))
    return parser.parse_args(argv)


def parse_linear(argv: Words = None) -> argparse.Namespace:
    """linear.py."""
    parser = make_parser(
        "Time linear layers of BEVFormer's shapes: ours (oneDNN) and ``F.linear``, in one process.",
        rounds=9,
        cuda=False,
    )
    parser.add_argument('--layers', nargs='+', choices=LAYERS, default=list(LAYERS))
    return parser.parse_args(argv)


def parse_loader(argv: Words = None) -> argparse.Namespace:
    """loader.py."""
    parser = make_parser(
        'Time what loads a training sample: six cameras of 1600x900 for two networks, ours beside how others do it, on CPU.',
        rounds=5,
        cuda=False,
    )
    parser.add_argument('--images', nargs=CAMERAS, metavar='FILE', help='the images; made up by default')
    parser.add_argument('--size', nargs=2, type=_positive, default=IMAGE_SIZE, help='of made-up images')
    return parser.parse_args(argv)


def parse_msda(argv: Words = None) -> argparse.Namespace:
    """msda.py."""
    parser = make_parser(
        "Time deformable attention on BEVFormer's real calls: ours, plain torch and (on CUDA) mmcv, in one process.",
        rounds=5,
    )
    parser.add_argument('--models', nargs='+', choices=ATTENTION_MODELS, default=list(ATTENTION_MODELS))
    parser.add_argument('--calls', nargs='+', choices=ATTENTION_CALLS, default=list(ATTENTION_CALLS))
    parser.add_argument('--modes', nargs='+', choices=ATTENTION_MODES, default=list(ATTENTION_MODES))
    parser.add_argument('--dtype', choices=DTYPES, default='fp32', help='of value; sampling stays float32')
    parser.add_argument(
        '--torch-rounds', type=_positive, default=2, help='timed calls of the plain torch path'
    )
    parser.add_argument(
        '--memory', action='store_true', help='also measure the memory of plain torch (one more call of it)'
    )
    return parser.parse_args(argv)


def parse_nuscenes_eval(argv: Words = None) -> argparse.Namespace:
    """nuscenes_eval.py."""
    parser = argparse.ArgumentParser(
        description="Time nuScenes' evaluation on CPU, ours beside the devkit's, on as many samples as the validation split has."
    )
    parser.add_argument('--samples', type=_positive, default=6019)
    parser.add_argument('--objects', type=_positive, default=35, help='annotations per sample, on average')
    parser.add_argument('--predictions', type=_positive, default=300, help='predictions per sample')
    parser.add_argument('--json', help='write the report to this file')
    return parser.parse_args(argv)


def parse_synthetic(argv: Words = None) -> argparse.Namespace:
    """synthetic.py."""
    parser = argparse.ArgumentParser(
        description='Time the stages of making synthetic scenes, one process: CPU and wall milliseconds per image and per sweep.'
    )
    parser.add_argument('--scenes', type=_positive, default=3)
    parser.add_argument('--frames', type=_positive, default=10)
    parser.add_argument('--size', type=parse_size, default=(400, 225), help='WIDTHxHEIGHT (default: 400x225)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', type=Path, help='also write the figures to this file')
    return parser.parse_args(argv)


def parse_train_step_cpu(argv: Words = None) -> argparse.Namespace:
    """train_step_cpu.py."""
    parser = make_parser(
        "Time a training step on the CPU as configs have it, and with the trainer's options: channels-last, bf16, fused, cache.",
        rounds=7,
        cuda=False,
    )
    parser.add_argument('--models', nargs='+', choices=TRAINED, default=list(TRAINED))
    return parser.parse_args(argv)


def parse_transformer(argv: Words = None) -> argparse.Namespace:
    """transformer.py."""
    parser = make_parser(
        "Time BEVFormer's whole transformer (encoder and decoder, one frame) with our attention and with plain torch.",
        rounds=3,
    )
    parser.add_argument('--models', nargs='+', choices=ATTENTION_MODELS, default=list(ATTENTION_MODELS))
    parser.add_argument('--torch-rounds', type=_positive, default=1)
    parser.add_argument('--profile', action='store_true')
    return parser.parse_args(argv)


def parse_voxel_query(argv: Words = None) -> argparse.Namespace:
    """voxel_query.py."""
    parser = make_parser(
        "Time Voxel R-CNN's voxel query at KITTI's full size: ours, plain torch, and the naive form, in one process.",
        rounds=3,
        cuda=False,
    )
    parser.add_argument('--cloud', help='file of points, float32, four numbers each')
    return parser.parse_args(argv)


def parse_point_sets(argv: Words = None) -> argparse.Namespace:
    """point_sets.py."""
    parser = make_parser(
        "Time IA-SSD's sampling and grouping at KITTI's full size: ours and plain torch, in one process.",
        rounds=3,
        cuda=False,
    )
    parser.add_argument('--cloud', help='file of points, float32, four numbers each')
    return parser.parse_args(argv)


def _words(text: str) -> tuple[str, ...]:
    """Words between commas."""
    return tuple(word for word in text.split(',') if word)


def _numbers(text: str) -> tuple[int, ...]:
    """Different numbers between commas."""
    numbers = tuple(int(word) for word in _words(text) if word.isdecimal())
    if not numbers or len(set(numbers)) < len(_words(text)):
        raise argparse.ArgumentTypeError(
            f'{text!r}: different numbers of at least 0 with commas between them, for instance 0,1,2'
        )
    return numbers


def _positive(text: str) -> int:
    """A number above zero."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r}: a whole number of at least 1')
    return int(text)


def from_root(text: str) -> Path:
    """A path that commands find too: they run in the root of the project."""
    return Path(text) if Path.cwd() == ROOT else Path(text).resolve()

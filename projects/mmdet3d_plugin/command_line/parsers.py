"""What every tool can be told. Each function reads a command line, or ends the program with the usage."""

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path

from projects.mmdet3d_plugin.command_line.override_action import OverrideAction, parse_overrides

PRECISIONS = ('bf16', 'fp16')
PICTURES = ('overview', 'cameras', 'bev', 'heatmap', 'proposals')
LATENCY_PROTOCOL = (
    'one sample of noise images, or of a made-up street in points, fp32, from input tensors to decoded boxes, with '
    'what a temporal model remembers of the frame before; models take turns frame by frame; median'
)
_UPSTREAM_VERSIONS = {'v1.0': 'v1.0-trainval'}
_CONFIG = 'a file, or the bare name of one below projects/configs'

Words = Sequence[str] | None
"""A command line; the program's own when it is None."""


def parse_train(argv: Words = None) -> argparse.Namespace:
    """tools/train.py."""
    return _training_parser('Train a detector, alone.').parse_args(argv)


def parse_distillation(argv: Words = None) -> argparse.Namespace:
    """tools/distillation.py."""
    return _training_parser('Distil: train the student of a recipe under its teacher.').parse_args(argv)


def parse_test(argv: Words = None) -> argparse.Namespace:
    """tools/test.py and tools/testStu.py."""
    parser = _config_parser('Evaluate a checkpoint.', 'config of the detector, or a recipe: then its student')
    parser.add_argument(
        'checkpoint', help='weights of the detector, of a distiller too, or a graph of tools/export_onnx.py'
    )
    parser.add_argument('--eval', nargs='+', choices=('bbox',), help='what to evaluate')
    parser.add_argument(
        '--format-only',
        action='store_true',
        help="write the files that the dataset's server takes, without evaluation; labels are not needed",
    )
    parser.add_argument(
        '--evaluator',
        help="who computes the metrics, where a dataset leaves a choice: nuScenes' own code by 'devkit', slower than ours",
    )
    parser.add_argument('--out', metavar='FILE.pkl', help='keep the raw results')
    parser.add_argument('--out-dir', help='where metrics.json and the submission file go')
    arguments = parser.parse_args(argv)
    if not (arguments.eval or arguments.format_only or arguments.out):
        parser.error('say what to do with the results: --eval bbox, --format-only, or --out results.pkl')
    if arguments.eval and arguments.format_only:
        parser.error('--format-only is without evaluation: leave it or --eval out')
    if arguments.evaluator and not arguments.eval:
        parser.error('--evaluator says who evaluates: add --eval bbox')
    return arguments


def parse_export_student(argv: Words = None) -> argparse.Namespace:
    """tools/export_student.py."""
    parser = argparse.ArgumentParser(
        description='Keep only the student of a checkpoint: no training-only parts, no optimizer, no random state.'
    )
    parser.add_argument('checkpoint', help='a checkpoint of a distiller (ours or upstream) or of a detector')
    parser.add_argument('out', help='the file to write')
    parser.add_argument('--force', action='store_true', help='overwrite the file if it exists')
    return parser.parse_args(argv)


def parse_export_onnx(argv: Words = None) -> argparse.Namespace:
    """tools/export_onnx.py."""
    parser = argparse.ArgumentParser(
        description='Write a trained detector as a graph in ONNX, which runs without this project.'
    )
    parser.add_argument('config', help='config of the detector, or a recipe: then its student')
    parser.add_argument('checkpoint', help='weights of the detector; a checkpoint of a distiller fits too')
    parser.add_argument('out', metavar='OUT.onnx', help='the file to write')
    parser.add_argument(
        '--int8',
        nargs='?',
        type=int,
        const=64,
        metavar='FRAMES',
        help='compute convolutions in eight bits, calibrated on frames of the training split (64 by default)',
    )
    parser.add_argument(
        '--data-root', help='with --int8: a folder with the data, in place of the one of the config'
    )
    parser.add_argument('--force', action='store_true', help='overwrite the file if it exists')
    parser.add_argument(
        '--cfg-options', nargs='+', action=OverrideAction, help='override settings, key=value'
    )
    return parser.parse_args(argv)


def parse_mine(argv: Words = None) -> argparse.Namespace:
    """tools/mine.py."""
    parser = _config_parser(
        'Mine an instance bank: a detector looks at two views of every training frame of a sparse split.',
        'a config with self_training',
    )
    parser.add_argument('checkpoint', help='weights of the detector; of a distiller too')
    parser.add_argument('--out', required=True, type=Path, metavar='BANK.npz', help='the file to write')
    parser.add_argument('--iteration', type=int, default=1, help='of the self-training, from 1')
    parser.add_argument('--seed', type=int, default=0, help='of the second views')
    parser.add_argument(
        '--parent', type=Path, metavar='BANK.npz', help="the bank before, for mine=dict(keep='monotone')"
    )
    return parser.parse_args(argv)


def parse_derive(argv: Words = None) -> argparse.Namespace:
    """tools/derive_training_set.py."""
    parser = _config_parser(
        'Write the training set that follows from a sparse split and a bank.', 'a config with self_training'
    )
    parser.add_argument('bank', type=Path, metavar='BANK.npz', help='a bank of tools/mine.py')
    parser.add_argument('--out', required=True, type=Path, metavar='DIR', help='folder of the training set')
    return parser.parse_args(argv)


def parse_self_train(argv: Words = None) -> argparse.Namespace:
    """tools/self_train.py."""
    parser = _training_parser(
        'Train on sparse labels, then mine, derive, train and test as often as the config says. Interrupted, it goes on '
        'where it was when it is run again.'
    )
    parser.add_argument('--processes', type=int, default=1, help='of every training, mining and test')
    return parser.parse_args(argv)


def parse_bank_quality(argv: Words = None) -> argparse.Namespace:
    """tools/analysis_tools/bank_quality.py."""
    parser = _config_parser(
        'Judge instance banks by the labels that were hidden: precision, recall, errors, what still counts as background.',
        'a config with self_training',
    )
    parser.add_argument('banks', type=Path, nargs='+', metavar='BANK.npz', help='of one split, oldest first')
    parser.add_argument('--out', type=Path, metavar='DIR', help='folder of index.html and its pictures')
    parser.add_argument('--samples', type=int, default=6, help='frames to draw')
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write the figures there')
    return parser.parse_args(argv)


def parse_visualize(argv: Words = None) -> argparse.Namespace:
    """tools/visualize.py."""
    parser = _config_parser('Draw boxes on images and from above, and BEV features.', 'config of a detector')
    parser.add_argument('checkpoint', nargs='?', help='its weights; without, only the true boxes are drawn')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder of the pictures')
    parser.add_argument('--samples', type=int, default=4, help='how many, spread evenly')
    parser.add_argument('--index', type=int, nargs='+', help='these samples instead')
    parser.add_argument('--split', choices=('train', 'val', 'test'), default='val')
    parser.add_argument('--score-thr', type=float, default=0.3, help='least score of a box that is drawn')
    parser.add_argument(
        '--kinds', nargs='+', choices=PICTURES, help='which pictures; all that there are by default'
    )
    return parser.parse_args(argv)


def parse_visualize_distill(argv: Words = None) -> argparse.Namespace:
    """tools/visualize_distill.py."""
    parser = _config_parser(
        'Draw what a recipe teaches: queries, regions, positions, voxels, heatmaps, features and their gaps.',
        'a recipe',
    )
    parser.add_argument('checkpoint', help='of a distillation with this recipe')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder of the pictures and index.html')
    parser.add_argument('--samples', type=int, default=2, help='how many, spread evenly')
    parser.add_argument('--index', type=int, nargs='+', help='these samples instead')
    parser.add_argument('--split', choices=('train', 'val', 'test'), default='val')
    return parser.parse_args(argv)


def parse_measure_closeness(argv: Words = None) -> argparse.Namespace:
    """tools/measure_closeness.py."""
    parser = _config_parser(
        'Measure where on the map the BEV feature of a student is close to that of its teacher.', 'a recipe'
    )
    parser.add_argument('checkpoint', help='of a distillation with this recipe')
    parser.add_argument('--out', required=True, metavar='FILE', help='JSON of the gaps')
    parser.add_argument('--samples', type=int, default=24, help='of the validation split, spread evenly')
    return parser.parse_args(argv)


def parse_demo(argv: Words = None) -> argparse.Namespace:
    """tools/demo.py; what is not given is not in the answer."""
    parser = argparse.ArgumentParser(
        description='Make a synthetic world, train a teacher and a student twice (alone and distilled), evaluate all '
        'three and write a report. Can be interrupted and run again.',
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument('--out', type=Path, help='where everything goes')
    parser.add_argument('--scenes', type=int, help='scenes of the world')
    parser.add_argument('--seed', type=int, help='of the world and of training')
    parser.add_argument('--size', type=size_text, help='WIDTHxHEIGHT of the images of the world')
    parser.add_argument('--frames', type=int, help='keyframes per scene')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        type=override_text,
        metavar='KEY=VALUE',
        help='override settings of all trainings',
    )
    return parser.parse_args(argv)


def parse_latency(argv: Words = None) -> argparse.Namespace:
    """tools/analysis_tools/benchmark.py."""
    parser = argparse.ArgumentParser(
        description=f'Milliseconds per frame, without data files: {LATENCY_PROTOCOL}'
    )
    parser.add_argument(
        'configs', nargs='+', metavar='CONFIG', help='detectors, or recipes: then their students'
    )
    parser.add_argument('--frames', type=int, default=20, help='frames to time per model')
    parser.add_argument('--warmup', type=int, default=3, help='frames to run before')
    parser.add_argument('--json', metavar='FILE', help='also write the figures to FILE')
    _add_launch_options(parser)
    return parser.parse_args(argv)


def parse_complexity(argv: Words = None) -> argparse.Namespace:
    """tools/analysis_tools/get_flops.py."""
    parser = argparse.ArgumentParser(
        description='Parameters, multiply-accumulates and peak memory of one forward. Needs no data: the cameras are '
        'those of a nuScenes car, the images black; LiDAR detectors see an empty street. 1 GFLOP = 1e9 '
        'multiply-accumulates.'
    )
    parser.add_argument('config', help='config of a detector, or a recipe: then its student')
    parser.add_argument(
        '--json', nargs='?', const='-', metavar='FILE', help='write JSON to FILE, or to the terminal'
    )
    parser.add_argument(
        '--measure-memory', action='store_true', help='also run one real forward and report its peak memory'
    )
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu', help='device of that forward')
    parser.add_argument(
        '--points',
        metavar='FILE.bin',
        help='LiDAR detectors: the cloud to count with; a made-up street by default',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=OverrideAction, help='override settings, key=value'
    )
    return parser.parse_args(argv)


def parse_waymo_eval(argv: Words = None) -> argparse.Namespace:
    """tools/analysis_tools/waymo_eval.py."""
    parser = argparse.ArgumentParser(
        description="AP and APH by Waymo's protocol. Both files hold a list of frames in the same order: the truth "
        'boxes [[x, y, z of the centre, length, width, height in metres, yaw in radians], ...], names, num_points and, '
        'where an annotator found an object hard, difficulty 2; the detections boxes, names and scores.'
    )
    parser.add_argument('truth', type=Path, help='JSON file of the labels')
    parser.add_argument('detections', type=Path, help='JSON file of what a detector found')
    parser.add_argument(
        '--overlap',
        action='append',
        default=[],
        metavar='CLASS=IOU',
        help="a class and the overlap that a hit must reach; Waymo's Vehicle=0.7, Pedestrian=0.5, Cyclist=0.5 by default",
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write the metrics there')
    return parser.parse_args(argv)


def parse_create_data(argv: Words = None) -> argparse.Namespace:
    """tools/create_data.py."""
    parser = argparse.ArgumentParser(description='Turn a folder of a public dataset into info files.')
    datasets = parser.add_subparsers(dest='dataset', required=True)
    _add_nuscenes(datasets.add_parser('nuscenes', help='temporal info files from the tables of nuScenes'))
    _add_kitti(
        datasets.add_parser('kitti', help='info files, reduced point clouds and a database of objects')
    )
    return parser.parse_args(argv)


def parse_create_synthetic(argv: Words = None) -> argparse.Namespace:
    """tools/create_synthetic.py."""
    parser = argparse.ArgumentParser(
        prog='create_synthetic.py',
        description='Make a synthetic dataset, in the layout of nuScenes, KITTI or COCO.',
    )
    add = parser.add_argument
    add('--out', required=True, help='folder of the dataset')
    add(
        '--format',
        choices=('nuscenes', 'kitti', 'coco'),
        default='nuscenes',
        help='its layout (default: nuscenes); coco has the 2D boxes of what each camera sees, and no LiDAR',
    )
    add(
        '--scenes',
        type=int,
        required=True,
        help='number of scenes, the last fifth for validation; with kitti each is a single frame, the last quarter',
    )
    add('--seed', type=int, default=0, help='fixes every byte (default: 0)')
    add('--size', type=parse_size, help='nuscenes, coco: image size WIDTHxHEIGHT (default: 400x225)')
    add(
        '--frames',
        type=int,
        help='nuscenes, coco: keyframes per scene, two a second (default: 10; with coco 1, which is six images)',
    )
    add('--sweeps', type=int, help='nuscenes: LiDAR sweeps between two keyframes (default: 0)')
    add(
        '--reach',
        type=float,
        help='nuscenes, coco: metres from the ego vehicle within which objects are placed (default: by class, up to 42)',
    )
    add(
        '--pace', type=float, help='nuscenes: speed of moving objects, relative to the usual one (default: 1)'
    )
    add('--workers', type=int, default=os.cpu_count() or 1, help='processes (default: one per core)')
    add('--force', action='store_true', help='replace a world that is there already')
    return parser.parse_args(argv)


def parse_size(text: str) -> tuple[int, int]:
    """Parse WIDTHxHEIGHT, such as 400x225.

    Example:
        >>> parse_size('400x225')
        (400, 225)
    """
    match = re.fullmatch(r'(\d+)x(\d+)', text.strip().lower())
    if match is None:
        raise argparse.ArgumentTypeError(f'{text!r} is no image size: write WIDTHxHEIGHT, such as 400x225')
    return int(match[1]), int(match[2])


def size_text(text: str) -> str:
    """WIDTHxHEIGHT as it is written, for a command that is handed on."""
    parse_size(text)
    return text


def override_text(text: str) -> str:
    """KEY=VALUE as it is written, for a command that is handed on."""
    try:
        parse_overrides([text])
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _config_parser(description: str, config_help: str) -> argparse.ArgumentParser:
    """A parser with what every tool takes: CONFIG, --data-root, --cfg-options, --amp and the launch options."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help=config_help)
    parser.add_argument(
        '--data-root', help="a folder in the layout of the config's data, in place of the config's own"
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=OverrideAction,
        help='override settings: optimizer.lr=1e-4 total_epochs=12',
    )
    parser.add_argument('--amp', choices=PRECISIONS, help='mixed precision')
    parser.add_argument(
        '--threads', type=int, help="torch's threads on the CPU; chosen by what is free by default"
    )
    _add_launch_options(parser)
    return parser


def _training_parser(description: str) -> argparse.ArgumentParser:
    """The parser of tools that train."""
    parser = _config_parser(description, _CONFIG)
    parser.add_argument('--work-dir', help='where logs and checkpoints go; work_dirs/<config> by default')
    parser.add_argument('--resume', '--resume-from', metavar='PATH|auto', help='continue from a checkpoint')
    parser.add_argument('--seed', type=int, help="random seed; the config's, else 0, by default")
    parser.add_argument('--deterministic', action='store_true', help='deterministic kernels, slower')
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate between epochs')
    return parser


def _add_launch_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--launcher``, ``--device`` and both spellings of ``--local-rank`` to a parser."""
    parser.add_argument(
        '--launcher',
        choices=('auto', 'none', 'pytorch'),
        default='auto',
        help='pytorch: started by torchrun; none: one plain process; auto: look at the environment',
    )
    parser.add_argument('--device', choices=('auto', 'cpu', 'cuda'), default='auto', help='where to compute')
    # torchrun says it in the environment; torch.distributed.launch passes one of the two spellings.
    parser.add_argument('--local-rank', '--local_rank', type=int, default=None, help=argparse.SUPPRESS)


def _add_nuscenes(parser: argparse.ArgumentParser) -> None:
    """Options of ``nuscenes``."""
    _add_common(parser, 'folder with samples/, maps/ and VERSION/', 'nuscenes')
    parser.add_argument(
        '--version',
        default='v1.0-trainval',
        type=lambda name: _UPSTREAM_VERSIONS.get(name, name),
        help="one of v1.0-trainval, v1.0-mini, v1.0-test; v1.0 is upstream's name for v1.0-trainval",
    )
    parser.add_argument(
        '--canbus', type=Path, help='folder of the CAN bus expansion; poses stand in without it'
    )
    parser.add_argument(
        '--canbus-message',
        choices=('before', 'after'),
        default='before',
        help="which message tells a sample's acceleration and velocity: the last before it, or the first after it, as "
        "BEVFormer's converter has it (default: before)",
    )
    parser.add_argument(
        '--split',
        type=Path,
        metavar='FILE',
        help='JSON of scene names by split, {"train": [...], "val": [...]}; VERSION/splits.json is found without it',
    )
    parser.add_argument(
        '--cameras', nargs='+', metavar='NAME', help='cameras to keep (default: all of the sensor table)'
    )


def _add_kitti(parser: argparse.ArgumentParser) -> None:
    """Options of ``kitti``."""
    _add_common(parser, 'folder with training/, testing/ and ImageSets/', 'kitti')
    parser.add_argument('--workers', type=int, default=2, help='processes (default: 2)')
    parser.add_argument(
        '--lidar-only',
        action='store_true',
        help="there are no images: keep whole clouds, not what a camera sees, and do not use labels' image boxes",
    )
    parser.add_argument(
        '--load-dim',
        type=int,
        help='32-bit floats per point in velodyne/: x, y, z, intensity, and more that are left out; 4 by default, or '
        'what the first cloud must have',
    )


def _add_common(parser: argparse.ArgumentParser, root: str, tag: str) -> None:
    """Options of every dataset."""
    parser.add_argument('--root-path', type=Path, required=True, help=root)
    parser.add_argument('--out-dir', type=Path, help='where the files go; default is --root-path')
    parser.add_argument(
        '--sparse',
        type=int,
        metavar='N',
        help='let N objects per frame of the training split keep their labels, and write info files in which there are '
        'no others, beside the full ones, which are made where they are missing',
    )
    parser.add_argument('--seed', type=int, default=0, help='with --sparse: of the choice (default: 0)')
    parser.add_argument(
        '--every', type=int, default=1, metavar='K', help='with --sparse: only every K-th frame keeps labels'
    )
    parser.add_argument(
        '--area',
        type=float,
        nargs=4,
        metavar=('X0', 'Y0', 'X1', 'Y1'),
        help='with --sparse: choose among objects within, metres in the LiDAR frame (default: everywhere)',
    )
    # Upstream's documented command has it; file names begin with nothing else here.
    parser.add_argument('--extra-tag', choices=[tag], help='prefix of the file names, as upstream')

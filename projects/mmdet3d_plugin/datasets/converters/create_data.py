"""The command line that makes info files."""

import argparse
import sys
from pathlib import Path

from projects.mmdet3d_plugin.common.errors import explain
from projects.mmdet3d_plugin.datasets.converters.kitti_converter import create_kitti_infos
from projects.mmdet3d_plugin.datasets.converters.nuscenes_converter import SPLITS, create_nuscenes_infos

UPSTREAM_VERSIONS = {'v1.0': 'v1.0-trainval'}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Turn a folder of a public dataset into info files.')
    datasets = parser.add_subparsers(dest='dataset', required=True)
    _add_nuscenes(datasets.add_parser('nuscenes', help='temporal info files from the tables of nuScenes'))
    _add_kitti(
        datasets.add_parser('kitti', help='info files, reduced point clouds and a database of objects')
    )
    return parser.parse_args(argv)


def _add_nuscenes(parser: argparse.ArgumentParser) -> None:
    """Options of ``nuscenes``."""
    _add_common(parser, 'folder with samples/, maps/ and VERSION/', 'nuscenes')
    parser.add_argument(
        '--version',
        default='v1.0-trainval',
        type=lambda name: UPSTREAM_VERSIONS.get(name, name),
        help=f"one of {', '.join(SPLITS)}; v1.0 is upstream's name for v1.0-trainval",
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
    # Upstream's documented command has it; file names begin with nothing else here.
    parser.add_argument('--extra-tag', choices=[tag], help='prefix of the file names, as upstream')


def main(argv: list[str] | None = None) -> int:
    """Create the files; a problem with the data is one line on stderr and exit status 2."""
    args = parse_args(argv)
    try:
        if args.dataset == 'kitti':
            create_kitti_infos(
                args.root_path,
                args.out_dir,
                args.workers,
                lidar_only=args.lidar_only,
                load_dim=args.load_dim,
            )
        else:
            create_nuscenes_infos(
                args.root_path,
                args.version,
                args.out_dir,
                args.canbus,
                split_file=args.split,
                cameras=args.cameras,
                can_bus_message=args.canbus_message,
            )
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        print(f'error: {message}', file=sys.stderr)
        return 2
    return 0

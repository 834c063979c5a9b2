"""Makes info files as a command line says."""

import argparse
import sys

from projects.mmdet3d_plugin.command_line.parsers import parse_create_data
from projects.mmdet3d_plugin.common.errors import explain
from projects.mmdet3d_plugin.datasets.converters.kitti_converter import create_kitti_infos
from projects.mmdet3d_plugin.datasets.converters.nuscenes_converter import create_nuscenes_infos
from projects.mmdet3d_plugin.datasets.sparse.info_layout import LAYOUTS
from projects.mmdet3d_plugin.datasets.sparse.sparse_split import SparseOptions, create_sparse_split


def main(argv: list[str] | None = None) -> int:
    """Create the files; a problem with the data is one line on stderr and exit status 2."""
    args = parse_create_data(argv)
    try:
        _create(args)
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        print(f'error: {message}', file=sys.stderr)
        return 2
    return 0


def _create(args: argparse.Namespace) -> None:
    """Full info files and, where one was asked for, a sparse split of them."""
    if args.sparse is None:
        _create_infos(args)
        return
    area = None if args.area is None else tuple(args.area)
    options = SparseOptions(args.sparse, args.seed, args.every, area)
    folder = args.out_dir or args.root_path
    if not (folder / LAYOUTS[args.dataset].file_name('train')).is_file():
        _create_infos(args)
    create_sparse_split(folder, args.dataset, options)


def _create_infos(args: argparse.Namespace) -> None:
    """Info files of all labels."""
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

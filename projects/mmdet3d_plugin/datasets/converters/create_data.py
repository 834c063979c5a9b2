"""Makes info files as a command line says."""

import sys

from projects.mmdet3d_plugin.command_line.parsers import parse_create_data
from projects.mmdet3d_plugin.common.errors import explain
from projects.mmdet3d_plugin.datasets.converters.kitti_converter import create_kitti_infos
from projects.mmdet3d_plugin.datasets.converters.nuscenes_converter import create_nuscenes_infos


def main(argv: list[str] | None = None) -> int:
    """Create the files; a problem with the data is one line on stderr and exit status 2."""
    args = parse_create_data(argv)
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

"""The command line that makes info files."""

import argparse
import sys
from pathlib import Path

from projects.mmdet3d_plugin.datasets.converters.nuscenes_converter import SPLITS, create_nuscenes_infos

UPSTREAM_VERSIONS = {'v1.0': 'v1.0-trainval'}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Turn a folder of a public dataset into info files.')
    parser.add_argument('dataset', choices=['nuscenes'])
    parser.add_argument(
        '--root-path', type=Path, required=True, help='folder with samples/, maps/ and VERSION/'
    )
    parser.add_argument(
        '--version',
        default='v1.0-trainval',
        type=lambda name: UPSTREAM_VERSIONS.get(name, name),
        help=f"one of {', '.join(SPLITS)}; v1.0 is upstream's name for v1.0-trainval",
    )
    parser.add_argument(
        '--canbus', type=Path, help='folder of the CAN bus expansion; poses stand in without it'
    )
    parser.add_argument('--out-dir', type=Path, help='where the info files go; default is --root-path')
    # Upstream's documented command has it; file names begin with nothing else here.
    parser.add_argument('--extra-tag', choices=['nuscenes'], help='prefix of the file names, as upstream')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Create the files; a problem with the data is one line on stderr and exit status 1."""
    args = parse_args(argv)
    try:
        create_nuscenes_infos(args.root_path, args.version, args.out_dir, args.canbus)
    except (OSError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0

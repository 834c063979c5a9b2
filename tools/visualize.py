"""Draw what a detector sees: python tools/visualize.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from projects.mmdet3d_plugin.command_line.parsers import parse_visualize

if __name__ == '__main__':
    launch(parse_visualize, 'studies.pictures.visualize')

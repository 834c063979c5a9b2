"""Draw what a recipe teaches: python tools/visualize_distill.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from projects.mmdet3d_plugin.command_line.parsers import parse_visualize_distill

if __name__ == '__main__':
    launch(parse_visualize_distill, 'studies.pictures.visualize_distill')

"""Train the student of a recipe under its teacher: python tools/distillation.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from projects.mmdet3d_plugin.command_line.parsers import parse_distillation

if __name__ == '__main__':
    launch(parse_distillation, 'engine.distill')

"""Measure where a student's BEV feature is close to its teacher's: python tools/measure_closeness.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from projects.mmdet3d_plugin.command_line.parsers import parse_measure_closeness

if __name__ == '__main__':
    launch(parse_measure_closeness, 'studies.pictures.closeness')

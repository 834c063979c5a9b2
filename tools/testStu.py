"""Evaluate the student of a recipe; no teacher is needed: python tools/testStu.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from projects.mmdet3d_plugin.command_line.parsers import parse_test

if __name__ == '__main__':
    launch(parse_test, 'engine.test')

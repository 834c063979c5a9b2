"""From nothing to a distilled detector and a report: python tools/demo.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from projects.mmdet3d_plugin.command_line.parsers import parse_demo

if __name__ == '__main__':
    launch(parse_demo, 'studies.demo')

"""AP and APH by Waymo's protocol over plain boxes in JSON: python tools/analysis_tools/waymo_eval.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from projects.mmdet3d_plugin.command_line.parsers import parse_waymo_eval

if __name__ == '__main__':
    launch(parse_waymo_eval, 'evaluation.waymo_boxes')

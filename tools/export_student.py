"""Strip a checkpoint to the student: python tools/export_student.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from projects.mmdet3d_plugin.command_line.parsers import parse_export_student

if __name__ == '__main__':
    launch(parse_export_student, 'engine.export')

"""Turn a folder of a public dataset into info files: python tools/create_data.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from projects.mmdet3d_plugin.command_line.parsers import parse_create_data

if __name__ == '__main__':
    launch(parse_create_data, 'datasets.converters.create_data')

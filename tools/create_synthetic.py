#!/usr/bin/env python3
"""Make a synthetic nuScenes-layout dataset; see --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from projects.mmdet3d_plugin.command_line.parsers import parse_create_synthetic

if __name__ == '__main__':
    launch(parse_create_synthetic, 'worlds.create')

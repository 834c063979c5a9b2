"""Write a trained detector as a graph in ONNX: python tools/export_onnx.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from projects.mmdet3d_plugin.command_line.parsers import parse_export_onnx

if __name__ == '__main__':
    launch(parse_export_onnx, 'engine.deploy.export_onnx')

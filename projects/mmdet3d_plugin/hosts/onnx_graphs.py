"""The registry of hosts that can leave the project as a graph in ONNX; its key is the detector's type."""

from mmcv.utils import Registry

ONNX_GRAPHS = Registry('graph in ONNX')
"""Modules around a detector that take and give arrays alone; see ``hosts.bevformer.onnx_graph`` for the contract."""

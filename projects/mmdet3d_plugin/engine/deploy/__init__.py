"""From a checkpoint to a graph in ONNX that runs without this project, and what evaluates such a graph."""

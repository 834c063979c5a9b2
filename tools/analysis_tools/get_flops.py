"""Print parameters, multiply-accumulates and memory of a config's model; see --help."""

from projects.mmdet3d_plugin.engine.complexity import main
from projects.mmdet3d_plugin.engine.launch import run_main

if __name__ == '__main__':
    run_main(main, None)

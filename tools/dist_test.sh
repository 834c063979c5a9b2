#!/usr/bin/env bash
# Evaluate a checkpoint with N processes on this node: tools/dist_test.sh CONFIG CHECKPOINT N [OPTIONS]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
[ $# -ge 3 ] || usage "tools/dist_test.sh CONFIG CHECKPOINT N [options of tools/test.py]" "$@"
# Like upstream's script, evaluate unless told otherwise.
options=("${@:4}")
[[ " ${options[*]-} " =~ " --"(eval|out|format-only)[=\ ] ]] || options+=(--eval bbox)
launch test.py "$3" "$1" "$2" "${options[@]}"

#!/usr/bin/env bash
# Distil with N processes on this node. A bare recipe name is found below projects/configs:
#   tools/dist_distill.sh base_distill_small_with_pv-cwd_bev-l2-heatmap.py 8
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
[ $# -ge 2 ] || usage "tools/dist_distill.sh RECIPE N [options of tools/distillation.py]" "$@"
launch distillation.py "$2" "$1" "${@:3}"

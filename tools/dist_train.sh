#!/usr/bin/env bash
# Train a detector with N processes on this node (one per GPU, or on CPU): tools/dist_train.sh CONFIG N [OPTIONS]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
[ $# -ge 2 ] || usage "tools/dist_train.sh CONFIG N [options of tools/train.py]" "$@"
launch train.py "$2" "$1" "${@:3}"

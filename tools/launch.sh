# Shared by dist_train.sh, dist_distill.sh and dist_test.sh: start a tool on N processes of this node.
# NNODES, NODE_RANK, MASTER_ADDR and PORT come from the environment when there are several nodes; without a .venv,
# PYTHON names the interpreter.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

# launch TOOL N ARGUMENTS...
launch() {
    local tool="$1" processes="$2"
    shift 2
    local python="${PYTHON:-python}"
    [ -x "$ROOT/.venv/bin/python" ] && python="$ROOT/.venv/bin/python"
    local rendezvous=(--nnodes "${NNODES:-1}" --nproc-per-node "$processes")
    if [ "${NNODES:-1}" -gt 1 ]; then
        if [ -z "${MASTER_ADDR:-}" ] || [ -z "${NODE_RANK:-}" ]; then
            echo "error: NNODES=$NNODES needs MASTER_ADDR (the same on every node) and NODE_RANK (0 to $((NNODES - 1)))" >&2
            exit 2
        fi
        rendezvous+=(--node-rank "$NODE_RANK" --master-addr "$MASTER_ADDR" --master-port "${PORT:-29500}")
    elif [ -n "${PORT:-}" ]; then
        rendezvous+=(--master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "$PORT")
    else
        rendezvous+=(--standalone) # torchrun finds a free port itself
    fi
    PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}" exec "$python" "$ROOT/tools/torchrun.py" "${rendezvous[@]}" \
        "$ROOT/tools/$tool" "$@" --launcher pytorch
}

# usage LINE ARGUMENTS...: print how to call the script, and leave; whoever asked for it made no mistake
usage() {
    local text="usage: $1"$'\n'"several nodes: set NNODES, NODE_RANK, MASTER_ADDR and PORT"
    case "${2-}" in
        -h | --help) echo "$text" && exit 0 ;;
    esac
    echo "$text" >&2
    exit 2
}

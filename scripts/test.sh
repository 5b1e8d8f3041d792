#!/bin/sh
# Evaluates a trained model on every point of the test scenes, after setting the environment up where needed. See -h.
set -eu

ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
CALLED_FROM=$(pwd)
. "$ROOT/scripts/environment.sh"

usage() {
    cat <<'END'
Usage: sh scripts/test.sh -n NAME -d DATASET [flags] [--options KEY=VALUE ...]
       sh scripts/test.sh -c CONFIG [flags] [--options KEY=VALUE ...]

  -n NAME      name of the experiment, in exp/DATASET/NAME (default: the config's)
  -d DATASET   folder under configs/ and exp/ (default: the one in CONFIG)
  -c CONFIG    config to use instead of the experiment's own; its model must be the same
  -w WEIGHT    checkpoint: a file, or a name in the experiment's model/ (default: model_best)
  -g NUMBER    processes, one per GPU (default: all GPUs, or 1 on the CPU)
  -m NUMBER    machines (default: 1); each runs the same command with its --machine-rank and one --dist-url
  -p PYTHON    Python to use (default: python); where it lacks packages, .venv is made and used
  -h           this text

  --machine-rank RANK   number of this machine, from 0 (default: $SLURM_NODEID, or 0)
  --dist-url URL        tcp://host:port of machine 0
  --options KEY=VALUE   values that replace those of the config, such as test.inference.max_fragments=4

Paths in a config that are not absolute, such as data_root, start at the repository's folder.
END
}

python="" dataset="" config="" name="" weight=model_best gpus="" machines=1
machine_rank=${SLURM_NODEID:-0} dist_url=auto
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage && exit 0 ;;
        --options) shift && break ;;
    esac
    need_value test $# "$1"
    case $1 in
        -p) python=$2 ;;
        -d) dataset=$2 ;;
        -c) config=$2 ;;
        -n) name=$2 ;;
        -w) weight=$2 ;;
        -g) gpus=$2 ;;
        -m) machines=$2 ;;
        --machine-rank) machine_rank=$2 ;;
        --dist-url) dist_url=$2 ;;
        *) fail "There is no flag $1. See sh scripts/test.sh -h." ;;
    esac
    shift 2
done
case $machines in '' | *[!0-9]*) fail "-m must be a number: got $machines." ;; esac
[ "$machines" -gt 1 ] || machine_rank=0
[ -n "$config$name" ] || fail "-n must name an experiment, or -c a config. See sh scripts/test.sh -h."

config=$(absolute "$config")
weight=$(absolute "$weight")
if [ -n "$dataset" ] && [ -n "$config" ] && [ ! -f "$config" ]; then
    config=$dataset/${config##*/}
fi
if [ -n "$config" ]; then
    folder=$(basename "$(dirname "$config")")
    : "${name:=$(basename "$config" .py)}"
    : "${dataset:=$folder}"
fi
[ "$dataset" = . ] && dataset=""
save_path=exp/${dataset:+$dataset/}$name

cd "$ROOT"
if [ -z "$config" ]; then
    config=$save_path/config.py
    [ -f "$config" ] || fail "There is no experiment in $ROOT/$save_path. Check -d and -n, or give a config with -c."
fi
[ -f "$weight" ] || weight=$save_path/model/${weight%.pth}.pth

use_python "$python"
PYTHONPATH=$ROOT:$CALLED_FROM${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH
: "${GOMP_SPINCOUNT:=10000}" # as in train.sh
export GOMP_SPINCOUNT
exec "$PYTHON" -m pointcept.test --config-file "$config" ${gpus:+--num-gpus "$gpus"} --num-machines "$machines" \
    --machine-rank "$machine_rank" --dist-url "$dist_url" \
    --options "save_path='$save_path'" "weight='$weight'" "resume=False" "$@"

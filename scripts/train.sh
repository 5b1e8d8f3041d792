#!/bin/sh
# Trains what a config describes, after setting the environment up where that is needed. See -h.
set -eu

ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
CALLED_FROM=$(pwd)
. "$ROOT/scripts/environment.sh"

usage() {
    cat <<'END'
Usage: sh scripts/train.sh -c CONFIG [-n NAME] [flags] [--options KEY=VALUE ...]

  -c CONFIG    a path, a name such as demo/pretrain-ponder-spunet, or with -d a name in that folder of configs/
  -d DATASET   folder under configs/ and exp/ (default: the one in CONFIG)
  -n NAME      name of the experiment (default: the config's); it goes to exp/DATASET/NAME
  -w WEIGHT    checkpoint to start from
  -r true      resume the experiment from its own config and last checkpoint (default: false)
  -g NUMBER    processes, one per GPU (default: all GPUs, or 1 on the CPU)
  -m NUMBER    machines (default: 1); each runs the same command with its --machine-rank and one --dist-url
  -p PYTHON    Python to use (default: python); where it lacks packages, .venv is made and used
  -h           this text

  --overwrite           delete an earlier experiment of the same name first
  --machine-rank RANK   number of this machine, from 0 (default: $SLURM_NODEID, or 0)
  --dist-url URL        tcp://host:port of machine 0
  --options KEY=VALUE   values that replace those of the config, such as epoch=10 optimizer.lr=0.001

Paths in a config that are not absolute, such as data_root, start at the repository's folder.
END
}

python="" dataset="" config="" name="" weight="" resume=false gpus="" machines=1
machine_rank=${SLURM_NODEID:-0} dist_url=auto overwrite=""
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage && exit 0 ;;
        --overwrite) overwrite=--overwrite && shift && continue ;;
        --options) shift && break ;;
    esac
    need_value train $# "$1"
    case $1 in
        -p) python=$2 ;;
        -d) dataset=$2 ;;
        -c) config=$2 ;;
        -n) name=$2 ;;
        -w) weight=$2 ;;
        -r) resume=$2 ;;
        -g) gpus=$2 ;;
        -m) machines=$2 ;;
        --machine-rank) machine_rank=$2 ;;
        --dist-url) dist_url=$2 ;;
        *) fail "There is no flag $1. See sh scripts/train.sh -h." ;;
    esac
    shift 2
done
case $machines in '' | *[!0-9]*) fail "-m must be a number: got $machines." ;; esac
[ "$machines" -gt 1 ] || machine_rank=0
case $resume in true | false) ;; *) fail "-r must be true or false: got $resume." ;; esac

config=$(absolute "$config")
weight=$(absolute "$weight")
if [ -n "$dataset" ] && [ ! -f "$config" ]; then
    config=$dataset/${config##*/}
fi
folder=$(basename "$(dirname "$config")")
: "${name:=$(basename "$config" .py)}"
: "${dataset:=$folder}"
[ -n "$config" ] || [ "$resume" = true ] || fail "-c must name a config. See sh scripts/train.sh -h."
[ -n "$name" ] || fail "-n or -c must say which experiment to resume. See sh scripts/train.sh -h."
[ "$dataset" = . ] && dataset=""
save_path=exp/${dataset:+$dataset/}$name

cd "$ROOT"
if [ "$resume" = true ]; then
    [ -f "$save_path/config.py" ] || fail "There is no experiment to resume in $ROOT/$save_path. Check -d, -c and -n."
    config=$save_path/config.py
    set -- resume=True "$@"
fi
[ -z "$weight" ] || set -- "weight='$weight'" "$@"

use_python "$python"
PYTHONPATH=$ROOT:$CALLED_FROM${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH
# OpenMP's threads wait by spinning; a short spin costs nothing on an idle machine and a third on a busy one.
: "${GOMP_SPINCOUNT:=10000}"
export GOMP_SPINCOUNT
exec "$PYTHON" -m pointcept.train --config-file "$config" ${gpus:+--num-gpus "$gpus"} --num-machines "$machines" \
    --machine-rank "$machine_rank" --dist-url "$dist_url" $overwrite --options "save_path='$save_path'" "$@"

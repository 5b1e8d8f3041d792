# Finds or makes a Python that has the packages of setup.py. Sourced by the other scripts; POSIX sh.
#
#   use_python REQUESTED [EXTRA ...]    sets PYTHON, or explains what is missing and exits
#   absolute FILE                       the file as seen from the repository root
#
# ROOT must be the repository root. REQUESTED may be empty. The first of these that is complete is used: REQUESTED (or
# `python`, `python3`), then .venv in the repository. Otherwise .venv is made or completed.

VENV="$ROOT/.venv"
UNFINISHED="$VENV/.unfinished"

say() {
    printf '%s\n' "$*" >&2
}

fail() {
    say "error: $*"
    exit 1
}

# need_value SCRIPT NUMBER-OF-ARGUMENTS FLAG
need_value() {
    [ "$2" -ge 2 ] || fail "$3 needs a value. See sh scripts/$1.sh -h."
}

# A file keeps its meaning after the change to the repository root. CALLED_FROM must be the folder that was left.
absolute() {
    case $1 in
        /*) printf '%s' "$1" ;;
        *) if [ -f "$CALLED_FROM/$1" ]; then printf '%s' "$CALLED_FROM/$1"; else printf '%s' "$1"; fi ;;
    esac
}

is_complete() {
    "$PYTHON" "$ROOT/scripts/check_environment.py" "$@" >/dev/null 2>&1
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1
}

use_python() {
    requested=$1
    shift
    for PYTHON in "${requested:-python}" "${requested:-python3}"; do
        is_complete "$@" && return
    done
    PYTHON=$VENV/bin/python
    [ ! -e "$UNFINISHED" ] && is_complete "$@" && return
    make_venv ${requested:+"$requested"}
    install_packages "$@"
}

# Leaves a .venv with a working pip. One whose installation was interrupted, or whose Python is gone, is made anew.
make_venv() {
    if [ -e "$UNFINISHED" ] || { [ -e "$VENV/pyvenv.cfg" ] && ! is_new_enough "$VENV/bin/python"; }; then
        say "Removing $VENV, which was left unfinished."
        rm -rf "$VENV"
    fi
    [ -e "$VENV/pyvenv.cfg" ] && return
    [ -e "$VENV" ] && fail "$VENV is in the way: it is no virtual environment. Move it elsewhere."
    [ $# -gt 0 ] || set -- python3.13 python3.12 python3.11 python3.10 python3 python
    found=""
    for candidate in "$@"; do
        is_new_enough "$candidate" || continue
        found="$found $candidate"
        say "Making a virtual environment in $VENV with $candidate ..."
        mkdir "$VENV" || fail "$ROOT must be writable to make an environment there. Or use -p with a complete Python."
        : >"$UNFINISHED"
        "$candidate" -m venv "$VENV" >&2 && return
        rm -rf "$VENV"
    done
    [ -n "$found" ] || fail "Python 3.10 or newer is needed: found none among $*. Install one, or name it with -p."
    fail "No virtual environment could be made with$found; the reason is above." \
        "On Debian and Ubuntu, apt install python3-venv helps."
}

install_packages() {
    extras=$(printf '%s,' "$@")
    say "Installing the packages of setup.py into $VENV (once; some gigabytes, mostly PyTorch) ..."
    if ! "$VENV/bin/python" -m pip install -e "$ROOT${1:+[${extras%,}]}" >&2; then
        fail "The packages could not be installed; pip says why above. Check the network and the disk and run this again," \
            "or use -p with a Python that has them. PIP_INDEX_URL and PIP_EXTRA_INDEX_URL choose where pip looks."
    fi
    rm -f "$UNFINISHED"
    missing=$("$VENV/bin/python" "$ROOT/scripts/check_environment.py" "$@" 2>&1) ||
        fail "The packages in $VENV are not as setup.py asks: $missing. Delete $VENV and run this again."
}

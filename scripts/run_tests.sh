#!/bin/sh
# Runs every check: lint, format, tests, documentation. Arguments go to pytest.
set -eu

ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$ROOT/scripts/environment.sh"
cd "$ROOT"
use_python "${PYTHON:-}" dev docs

# One thread per worker; more than eight workers spend their time importing.
cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
workers=$((cores < 8 ? cores : 8))
OMP_NUM_THREADS=1
export OMP_NUM_THREADS

failed=""
"$PYTHON" -m ruff check . || failed="$failed lint"
"$PYTHON" -m ruff format --check . || failed="$failed format"
"$PYTHON" -m pytest -n "$workers" "$@" || failed="$failed tests"
if [ -f mkdocs.yml ]; then
    NO_MKDOCS_2_WARNING=1 "$PYTHON" -m mkdocs --quiet build --strict || failed="$failed docs"
fi
[ -z "$failed" ] || fail "These checks failed:$failed."

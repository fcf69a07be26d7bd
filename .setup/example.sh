# Runs an example of examples/ on data that it makes.
# usage: sh .setup/example.sh NAME [ARGUMENT...]      from the repository's root; reads EPOCHS and WORKERS
set -eu

[ -z "${WORKERS:-}" ] || set -- "$@" --workers "$WORKERS"
[ -z "${EPOCHS:-}" ] || set -- "$@" --epochs "$EPOCHS"

export STOKER_WORKER_PYTHON=${STOKER_WORKER_PYTHON:-.venv/workers/bin/python}
exec .venv/trainer/bin/python -m examples.run "$@"

# Starts the trainer, on the sample data or on DATA.
# usage: sh .setup/train.sh [TRAINER ARGUMENT...]      from the repository's root; reads DATA, EPOCHS and WORKERS
set -eu

if [ -n "${DATA:-}" ]; then
    data=$DATA
else
    data=sample-data
    .venv/workers/bin/python -m stoker.pipeline.sources.sample_data sample-data
fi
[ -z "${WORKERS:-}" ] || set -- --workers "$WORKERS" "$@"
[ -z "${EPOCHS:-}" ] || set -- --epochs "$EPOCHS" "$@"

# exec: Ctrl-C and SIGTERM reach the trainer itself, and its exit code is that of this script.
export STOKER_WORKER_PYTHON=${STOKER_WORKER_PYTHON:-.venv/workers/bin/python}
exec .venv/trainer/bin/python -m trainer "$data" "$@"

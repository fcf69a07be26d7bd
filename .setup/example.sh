# Runs an example of examples/ on data that it makes.
# usage: sh .setup/example.sh NAME [ARGUMENT...]      from the repository's root; reads EPOCHS, WORKERS, and RANKS (for
#        the example horovod: the number of trainers, 2)
set -eu

[ -z "${WORKERS:-}" ] || set -- "$@" --workers "$WORKERS"
[ -z "${EPOCHS:-}" ] || set -- "$@" --epochs "$EPOCHS"

export STOKER_WORKER_PYTHON=${STOKER_WORKER_PYTHON:-.venv/workers/bin/python}
if [ "$1" = horovod ]; then
    sh .setup/environment.sh horovod
    exec .venv/horovod/bin/horovodrun -np "${RANKS:-2}" .venv/horovod/bin/python -m examples.run "$@"
fi
exec .venv/trainer/bin/python -m examples.run "$@"

# Becomes the trainer, on the sample data or on DATA.
# usage: sh .setup/train.sh [TRAINER ARGUMENT...]      from the repository's root; reads DATA, EPOCHS and WORKERS
set -eu

if [ -n "${DATA:-}" ]; then
    data=$DATA
    run=$(basename "$DATA")
else
    data=sample-data
    run=sample
    .venv/workers/bin/python -m pipeline.sample_data sample-data
fi
[ -z "${WORKERS:-}" ] || set -- --workers "$WORKERS" "$@"
[ -z "${EPOCHS:-}" ] || set -- --epochs "$EPOCHS" "$@"

# exec: Ctrl-C and SIGTERM reach the trainer itself, and its exit code is ours.
exec .venv/trainer/bin/python -m trainer "$data" --worker-python .venv/workers/bin/python \
    --checkpoint-dir "runs/$run" "$@"

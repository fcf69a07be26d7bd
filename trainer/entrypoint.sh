#!/bin/sh
# In the trainer's container: makes what is missing, keys and sample pictures, and becomes the trainer.
# usage: entrypoint.sh [TRAINER ARGUMENT...]
#        entrypoint.sh keys NAME      writes the keys of the workers NAME, made if need be, as a tar to standard output
set -eu

if [ "${1:-}" = keys ]; then
    python -m pipeline.keys /keys "$2" >&2
    exec tar -C "/keys/workers/$2" -cf - .
fi

[ -e /keys/trainer.key_secret ] || echo "first start: making keys for the trainer and its workers"
python -m pipeline.keys /keys worker >/dev/null
data=/data name=$(basename "${DATA:-data}")
if [ "${STOKER_GENERATOR:-}" = numerical ]; then
    data='' name=numerical
elif [ -z "$(ls /data)" ]; then
    echo "no pictures in ${DATA:-./data}: training on sample pictures"
    python -m pipeline.sample_data /sample/pictures
    data=/sample/pictures name=sample-pictures
fi
export STOKER_CHECKPOINT_DIR="${STOKER_CHECKPOINT_DIR:-/runs/$name}"
exec python -m trainer $data --workers 0 --bind tcp://0.0.0.0:5555 --keys /keys --health-file /tmp/alive "$@"

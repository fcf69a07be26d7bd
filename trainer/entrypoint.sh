#!/bin/sh
# In the trainer's container: makes what is missing, keys and sample pictures, and becomes the trainer.
# usage: entrypoint.sh [TRAINER ARGUMENT...]
#        entrypoint.sh keys NAME      writes the keys of the workers NAME, made if need be, as a tar to standard output
set -eu

say() { echo "stoker-train: $*" >&2; }

case ${1:-} in
    -h | --help) exec python -m trainer --help ;;
esac
if [ -e /keys/trainer.key_secret ] && [ ! -r /keys/trainer.key_secret ]; then
    say "error: the keys belong to another user than $(id -u): go back to the STOKER_USER of the first start, or begin anew" \
        "with docker-compose down --volumes, which takes checkpoints along"
    exit 2
fi
if [ "${1:-}" = keys ]; then
    python -m stoker.pipeline.transport.keys /keys "$2" >&2
    exec tar -C "/keys/workers/$2" -cf - .
fi

[ -e /keys/trainer.key_secret ] || say "first start: making keys for the trainer and its workers"
python -m stoker.pipeline.transport.keys /keys worker >/dev/null
found=$(ls /data) || { say "error: DATA (${DATA:-./data}) cannot be read by user $(id -u): chmod it, or say STOKER_USER"; exit 2; }
data=/data
name=$(basename "${DATA:-data}")
if [ "${STOKER_GENERATOR:-}" = numerical ]; then
    data='' name=numerical
elif [ -z "$found" ] && [ "${DATA:-./data}" = ./data ]; then
    say "no pictures in ./data: training on sample pictures"
    python -m stoker.pipeline.sources.sample_data /sample/pictures
    data=/sample/pictures name=sample-pictures
fi
case $name in
    . | .. | /) name=data ;;
esac
export STOKER_CHECKPOINT_DIR="${STOKER_CHECKPOINT_DIR:-/runs/$name}"
exec python -m trainer $data --workers 0 --bind tcp://0.0.0.0:5555 --keys /keys --health-file /tmp/alive "$@"

#!/bin/sh
# In the trainer's container: makes keys and sample pictures where they are missing, and starts the trainer.
# usage: entrypoint.sh [TRAINER ARGUMENT...]
#        entrypoint.sh keys NAME      writes the keys of the workers NAME as a tar to standard output; makes them first
set -eu

say() { echo "stoker-train: $*" >&2; }

case ${1:-} in
    -h | --help) exec python -m trainer --help ;;
esac
if [ -e /keys/trainer.key_secret ] && [ ! -r /keys/trainer.key_secret ]; then
    say "error: user $(id -u) cannot read the keys: set STOKER_USER as it was at the first start, or start again" \
        "from zero with docker-compose down --volumes, which also deletes the checkpoints"
    exit 2
fi
if [ "${1:-}" = keys ]; then
    python -m stoker.pipeline.transport.keys /keys "$2" >&2
    exec tar -C "/keys/workers/$2" -cf - .
fi

[ -e /keys/trainer.key_secret ] || say "first start: making keys for the trainer and its workers"
python -m stoker.pipeline.transport.keys /keys worker >/dev/null
found=$(ls /data) || {
    say "error: user $(id -u) cannot read DATA (${DATA:-./data}): change its permissions, or set STOKER_USER"
    exit 2
}
data=/data${TRAIN_FOLDER:+/$TRAIN_FOLDER}
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
exec python -m trainer ${data:+"$data"} --workers 0 --bind tcp://0.0.0.0:5555 --keys /keys --health-file /tmp/alive "$@"

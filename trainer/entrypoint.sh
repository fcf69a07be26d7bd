#!/bin/sh
# In the trainer's container: makes keys and sample pictures where they are missing, and starts the trainer.
# usage: entrypoint.sh [TRAINER ARGUMENT...]
#        entrypoint.sh keys NAME      writes the keys of the workers NAME as a tar to standard output; makes them first
#        entrypoint.sh page           prints the address of the status page, with its token; the command stoker-page
set -eu

say() { echo "stoker-train: $*" >&2; }

address() { # prints the one at which this host reaches the container: that of its route to other networks
    python -c 'import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.connect(("192.0.2.1", 9)); print(s.getsockname()[0])'
}

case ${1:-} in
    -h | --help) exec python -m trainer --help ;;
    page)
        [ -r /status/token ] || {
            say "error: there is no status page: it is switched off, or the trainer has not begun yet"
            exit 2
        }
        case ${STATUS_PORT:-} in
            '') host=$(address):8265 ;; # in a Swarm, which publishes no port of one host
            0) host=127.0.0.1:PORT && say "docker-compose port trainer 8265  says the PORT" ;;
            *) host=127.0.0.1:$STATUS_PORT ;;
        esac
        echo "http://$host/#token=$(cat /status/token)"
        exit
        ;;
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
make_token() {
    new=$(mktemp /status/token.XXXXXX 2>/dev/null) || return # only its user may read it
    head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$new"
    mv "$new" /status/token
}

token=/status/token
if [ -z "${STOKER_STATUS-default}" ]; then # STOKER_STATUS= in .env
    rm -f $token
    unset STOKER_STATUS STOKER_STATUS_TOKEN_FILE
elif [ -s $token ] || make_token; then
    export STOKER_STATUS="${STOKER_STATUS-0.0.0.0:8265}" STOKER_STATUS_TOKEN_FILE=$token
    say "the command  docker-compose exec trainer stoker-page  prints the address of the status page"
else
    say "there is no status page: user $(id -u) cannot write to the volume /status of its token"
    unset STOKER_STATUS STOKER_STATUS_TOKEN_FILE
fi
export STOKER_CHECKPOINT_DIR="${STOKER_CHECKPOINT_DIR:-/runs/$name}"
exec python -m trainer ${data:+"$data"} --workers 0 --bind tcp://0.0.0.0:5555 --keys /keys --health-file /tmp/alive "$@"

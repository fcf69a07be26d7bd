# Makes the images of trainer and workers for `make kube-test`, once for each state of the files in them, by the commands
# of docs/KUBERNETES.md; only `docker push` writes an archive instead. They stay in the user's cache folder.
# usage: sh .setup/kube-images.sh      from the repository's root; prints the folder with trainer.tar and worker.tar
#
# Without a Docker engine, as root on Debian, docker-engine.sh starts one for as long as it is needed. What an engine made
# of the pinned packages stays in the cache as well, so that a change of Stoker's code installs nothing anew.
set -eu

cache=${XDG_CACHE_HOME:-$HOME/.cache}/stoker
packages="$(grep -ho '\.setup/[a-z/.-]*' trainer/Dockerfile workers/Dockerfile | sort -u) .setup/base-image.sh
    trainer/Dockerfile workers/Dockerfile"
registry=docker.io/library # where a node looks for a name without a registry

say() { echo "stoker: $*" >&2; }

hash_of() { # PATH...: of names and contents of the files, without what Python makes of them
    find "$@" -type f ! -path '*/__pycache__/*' -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c 1-16
}

environments=$cache/image-environments-$(hash_of $packages).tar
images=$cache/images-$(hash_of $packages .dockerignore pipeline trainer inspection packing workers stoker)
if [ -d "$images" ]; then
    echo "$images"
    exit
fi
if ! docker version >/dev/null 2>&1; then
    exec sh .setup/docker-engine.sh sh .setup/kube-images.sh
fi

mkdir -p "$cache"
work=$(mktemp -d "$cache/.images-XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' HUP INT TERM
say "building the images of trainer and workers ..."
for archive in "$cache"/image-environments-*.tar; do # also that of other pins: most steps are the same
    [ ! -f "$archive" ] || docker load --quiet --input "$archive" >&2
done
trainer_base=$(sh .setup/base-image.sh "${TRAINER_PYTHON_IMAGE:-python:3.6-slim-bullseye}")
worker_base=$(sh .setup/base-image.sh "${WORKER_PYTHON_IMAGE:-python:3.13-slim-bookworm}")
for side in trainer workers; do
    base=$trainer_base
    [ $side = trainer ] || base=$worker_base
    command docker build --quiet --target environment --build-arg PYTHON_IMAGE="$base" \
        --cache-from stoker-environment-$side -f $side/Dockerfile -t stoker-environment-$side . >&2
done
if [ ! -f "$environments" ]; then
    command docker save --output "$work/environments.tar" stoker-environment-trainer stoker-environment-workers \
        "$trainer_base" "$worker_base"
    rm -f "$cache"/image-environments-*.tar
    mv "$work/environments.tar" "$environments"
fi

docker() { # stands for the user's docker in the commands of the document
    case $1 in
        build)
            base=$trainer_base from=stoker-environment-trainer
            case $* in *workers/Dockerfile*) base=$worker_base from=stoker-environment-workers ;; esac
            shift
            command docker build --quiet --build-arg PYTHON_IMAGE="$base" --cache-from $from "$@" >&2
            ;;
        push)
            name=${2##*/stoker-}
            command docker save --output "$work/${name%%:*}.tar" "$2"
            ;;
        *) command docker "$@" ;;
    esac
}
commands=$(sed -n '/^<!-- kubernetes: images -->/,/^```$/p' docs/KUBERNETES.md | sed '/^<!--/d; /^```/d' |
    sed "s|^export REGISTRY=.*|export REGISTRY=$registry|")
eval "$commands"
[ -s "$work/trainer.tar" ] && [ -s "$work/worker.tar" ]
chmod 755 "$work"
[ -d "$images" ] || { mkdir "$work/made" && mv "$work"/*.tar "$work/made/" && mv "$work/made" "$images"; }
# those of older states of the code: a gigabyte each; not those that another run may be using now
find "$cache" -maxdepth 1 -name 'images-*' -type d ! -path "$images" -mmin +60 -exec rm -rf {} +
echo "$images"

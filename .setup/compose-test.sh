# Tests `docker-compose` against a real engine: the running one, or, if STOKER_REQUIRE_DOCKER=1 is set, a temporary one
# (docker-engine.sh). Without an engine the tests are skipped, with a line that says so.
# usage: sh .setup/compose-test.sh [PYTEST ARGUMENT...]      from the repository's root
set -eu

say() { echo "stoker: $*" >&2; }

if ! docker version >/dev/null 2>&1; then
    if [ "${STOKER_REQUIRE_DOCKER:-}" = 1 ] && [ -z "${DOCKER_HOST:-}" ]; then
        exec sh .setup/docker-engine.sh sh .setup/compose-test.sh "$@"
    fi
    say "SKIPPED: the compose tests need a Docker engine, and none answers${DOCKER_HOST:+ at $DOCKER_HOST}. Start one" \
        "(systemctl start docker), or, as root on Debian, set STOKER_REQUIRE_DOCKER=1 for a temporary one"
    [ "${STOKER_REQUIRE_DOCKER:-}" != 1 ] || exit 1
    exit 0
fi
if ! command -v docker-compose >/dev/null && ! docker compose version >/dev/null 2>&1; then
    say "the compose tests need docker-compose 1.27 or newer, or the compose plugin of docker: neither was found"
    exit 1
fi
sh .setup/environment.sh trainer tests
TRAINER_PYTHON_IMAGE=$(sh .setup/base-image.sh "${TRAINER_PYTHON_IMAGE:-python:3.6-slim-bullseye}")
WORKER_PYTHON_IMAGE=$(sh .setup/base-image.sh "${WORKER_PYTHON_IMAGE:-python:3.13-slim-bookworm}")
export TRAINER_PYTHON_IMAGE WORKER_PYTHON_IMAGE
exec .venv/trainer/bin/python -m pytest tests/compose "$@"

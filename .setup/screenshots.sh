# Makes the pictures of the status page in README.md and docs/, of a real training, in two minutes.
# usage: sh .setup/screenshots.sh      from the repository's root, on Debian, as root
set -eu

sh .setup/environment.sh trainer tests metrics
sh .setup/environment.sh workers
STOKER_TEST_CHROMIUM=$(sh .setup/debian-programs.sh chromium)
export STOKER_TEST_CHROMIUM STOKER_WORKER_PYTHON=.venv/workers/bin/python
exec .venv/trainer/bin/python -m tests.monitoring.screenshots docs/pictures

# Tests Stoker under the engines that run its workers elsewhere, Ray, Slurm, Horovod, Kubernetes' manifests, with stores
# (S3, Google's, a web server), and with the programs by which people look at it: a browser, a terminal, Prometheus.
# usage: sh .setup/engines-test.sh [PYTEST ARGUMENT...]      from the repository's root
#
# What cannot run on this machine (no root, no Debian, an environment that cannot be made) is skipped, with a line that
# says why. With STOKER_REQUIRE_ENGINES=1 it is a failure.
set -eu

say() { echo "stoker: $*" >&2; }

sh .setup/environment.sh trainer tests metrics
sh .setup/environment.sh workers tests
environment() { # NAME: tests that need one that cannot be made print the sentence in .venv/NAME.missing
    sh .setup/environment.sh "$1" || say "tests that need .venv/$1 do not run"
}

environment ray
environment kube
environment horovod
environment stores
STOKER_TEST_SLURM=$(sh .setup/debian-programs.sh slurm) || say "tests that need Slurm do not run"
STOKER_TEST_CHROMIUM=$(sh .setup/debian-programs.sh chromium) || say "tests that need Chromium do not run"
STOKER_TEST_PROMETHEUS=$(sh .setup/debian-programs.sh prometheus) || say "tests that need Prometheus do not run"
STOKER_TEST_TMUX=$(sh .setup/debian-programs.sh tmux) || say "tests that need tmux do not run"
STOKER_TEST_NGINX=$(sh .setup/debian-programs.sh nginx) || say "tests that need nginx do not run"
export STOKER_TEST_SLURM STOKER_TEST_CHROMIUM STOKER_TEST_PROMETHEUS STOKER_TEST_TMUX STOKER_TEST_NGINX
export STOKER_TEST_WORKER_PYTHON=.venv/workers/bin/python STOKER_TEST_PYTHON36=.venv/trainer/bin/python
exec .venv/trainer/bin/python -m pytest tests/engines tests/monitoring tests/stores "$@"

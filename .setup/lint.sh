# Runs ruff and mypy in the workers' environment; also hadolint and shellcheck where they have wheels.
# usage: sh .setup/lint.sh      from the repository's root
set -eu

sh .setup/environment.sh workers
python=.venv/workers/bin/python
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    echo "stoker: lint needs CPython 3.10 or newer, $python is $("$python" -V)" >&2
    exit 1
fi
sh .setup/environment.sh workers lint
"$python" -m ruff check --output-format concise stoker/__init__.py pipeline workers trainer inspection packing benchmarks tests examples
bin=.venv/workers/bin
[ ! -x $bin/hadolint ] || $bin/hadolint trainer/Dockerfile trainer/gpu.Dockerfile workers/Dockerfile
# SC2046: environment.sh wants the words of an unquoted command as separate arguments
[ ! -x $bin/shellcheck ] || $bin/shellcheck --shell sh --severity warning --exclude SC2046 .setup/*.sh */entrypoint.sh deploy/slurm/*.sh
"$python" -m mypy --strict -m stoker -p stoker.pipeline -p stoker.workers
exec "$python" -m mypy -p stoker.trainer -p stoker.inspection -p stoker.packing -p benchmarks

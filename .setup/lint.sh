# Runs ruff and mypy, and, where there are wheels of them, hadolint and shellcheck, from the workers' environment.
# usage: sh .setup/lint.sh      from the repository's root
set -eu

sh .setup/environment.sh workers
python=.venv/workers/bin/python
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    echo "stoker: lint needs CPython 3.10 or newer, $python is $("$python" -V)" >&2
    exit 1
fi
sh .setup/environment.sh workers lint
"$python" -m ruff check --output-format concise pipeline workers trainer benchmarks tests
bin=.venv/workers/bin
[ ! -x $bin/hadolint ] || $bin/hadolint trainer/Dockerfile trainer/gpu.Dockerfile workers/Dockerfile
# words of an unquoted command are what environment.sh wants there
[ ! -x $bin/shellcheck ] || $bin/shellcheck --shell sh --severity warning --exclude SC2046 .setup/*.sh */entrypoint.sh
exec "$python" -m mypy pipeline workers trainer benchmarks

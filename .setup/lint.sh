# Runs ruff and mypy from the workers' environment.
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
exec "$python" -m mypy pipeline workers trainer benchmarks

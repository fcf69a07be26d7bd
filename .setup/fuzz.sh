# Fuzzes the codec, the coordinator, the decoding of pictures, record files and the open port of a training. RUNS scales all of them.
# usage: sh .setup/fuzz.sh [RUNS]      from the repository's root; RUNS: messages for the codec, default 2,000,000
set -eu

runs=${1:-2000000}
guided=$((runs / 5 < 1000000 ? runs / 5 : 1000000))
export STOKER_TEST_WORKER_PYTHON=.venv/workers/bin/python
trainer=.venv/trainer/bin/python

"$trainer" -m tests.fuzz.fuzz_codec --runs "$runs"
if .venv/workers/bin/python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))'; then
    sh .setup/environment.sh workers fuzz
    found=$(mktemp -d) # where libFuzzer writes the inputs that fail
    .venv/workers/bin/python -m tests.fuzz.fuzz_codec --guided --runs "$guided" --found "$found/" ||
        { echo "stoker: the inputs that fail are in $found" >&2; exit 1; }
    rmdir "$found"
else
    echo "stoker: there is no atheris for the workers' Python: skipping the coverage-guided fuzzing" >&2
fi
"$trainer" -m tests.fuzz.fuzz_coordinator --runs $((runs / 20))
"$trainer" -m tests.fuzz.fuzz_pictures --runs $((runs / 100))
"$trainer" -m tests.fuzz.fuzz_records --runs $((runs / 50))
exec "$trainer" -m tests.fuzz.socket_flood --runs $((runs / 10))

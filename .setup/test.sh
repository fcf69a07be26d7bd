# Runs the tests: the unit tests on both Pythons at once, since each run uses one core; the others with the trainer's.
# usage: sh .setup/test.sh all|unit|faults [PYTEST ARGUMENT...]      from the repository's root
set -eu

which=$1
shift
failed=0
ran=0

export STOKER_TEST_PYTHON36=.venv/trainer/bin/python STOKER_TEST_WORKER_PYTHON=.venv/workers/bin/python
export STOKER_TEST_BUILD_PYTHON=.venv/build/bin/python
[ ! -d .venv/pillow-pictures ] || export STOKER_TEST_PILLOW_PICTURES=.venv/pillow-pictures
[ ! -x .venv/same-pillow/bin/python ] || export STOKER_TEST_SAME_PILLOW_PYTHON=.venv/same-pillow/bin/python

start() { # ENVIRONMENT TITLE PYTEST-ARGUMENT...
    python=.venv/$1/bin/python
    echo "stoker: $2 with $("$python" -V) ..." >&2
    shift 2
    "$python" -m pytest "$@"
}

note() { # STATUS of a run: remembers a failure, so that the other runs still happen
    case $1 in
        0) ran=1 ;;
        2) exit 2 ;; # interrupted, or a test file cannot be loaded
        5) ;;      # none selected here: `ARGS="-k name"` may name tests of another run
        *) failed=$1 ;;
    esac
}

run() { # as start
    status=0
    start "$@" || status=$?
    note $status
}

run_unit_tests() { # PYTEST-ARGUMENT...: what the second Python says follows when the first one is done
    second=
    if [ ! -L .venv/workers ]; then
        said=$(mktemp)
        trap 'kill "$second" 2>/dev/null; rm -f "$said"' EXIT
        trap 'exit 130' INT TERM
        start workers "unit tests" tests/unit "$@" >"$said" 2>&1 &
        second=$!
    fi
    run trainer "unit tests" tests/unit "$@"
    [ -n "$second" ] || return 0
    status=0
    wait "$second" || status=$?
    cat "$said" >&2
    note $status
}

if [ "$which" = faults ]; then
    run trainer "fault tests" tests/faults "$@"
else
    run_unit_tests "$@"
    [ "$which" = unit ] || run trainer "integration and fault tests, examples" tests/integration tests/faults tests/examples "$@"
fi

[ $failed = 0 ] || exit $failed
[ $ran = 1 ] || { echo "stoker: no test was selected" >&2; exit 5; }

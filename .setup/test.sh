# Runs the tests: the unit tests on both Pythons, the others with the trainer's. Two runs at once, since one seldom uses
# two cores; with arguments one after the other, so that -s and --pdb work.
# usage: sh .setup/test.sh all|unit|faults [PYTEST ARGUMENT...]      from the repository's root
set -eu

which=$1
shift
failed=0
ran=0
other=      # the process of the second run, and what it said
said=

export STOKER_TEST_PYTHON36=.venv/trainer/bin/python STOKER_TEST_WORKER_PYTHON=.venv/workers/bin/python
export STOKER_TEST_BUILD_PYTHON=.venv/build/bin/python
[ ! -d .venv/pillow-pictures ] || export STOKER_TEST_PILLOW_PICTURES=.venv/pillow-pictures
[ ! -x .venv/same-pillow/bin/python ] || export STOKER_TEST_SAME_PILLOW_PYTHON=.venv/same-pillow/bin/python

become() { # ENVIRONMENT TITLE PYTEST-ARGUMENT...: this shell becomes the run
    python=.venv/$1/bin/python
    echo "stoker: $2 with $("$python" -V) ..." >&2
    shift 2
    exec "$python" -m pytest "$@"
}

note() { # STATUS of a run: remembers a failure, so that the other runs still happen
    case $1 in
        0) ran=1 ;;
        2) exit 2 ;; # interrupted, or a test file cannot be loaded
        5) ;;      # none selected here: `ARGS="-k name"` may name tests of another run
        *) failed=$1 ;;
    esac
}

run() { # as become
    status=0
    (become "$@") || status=$?
    note $status
}

beside() { # as become, while the next run goes on; with arguments of the user before that one
    if [ -n "$has_arguments" ]; then
        run "$@"
    else
        said=$(mktemp)
        become "$@" >"$said" 2>&1 &
        other=$!
    fi
}

finish() { # waits for the run that goes on beside; what it says comes now
    [ -n "$other" ] || return 0
    tail -n +1 -f --pid="$other" "$said"
    status=0
    wait "$other" || status=$?
    other=
    rm -f "$said"
    note $status
}

end() {
    [ -z "$other" ] || kill -INT "$other" 2>/dev/null || :
    [ -z "$said" ] || rm -f "$said"
}
trap end EXIT
trap 'exit 130' INT TERM
has_arguments=${1:-}

if [ "$which" = faults ]; then
    run trainer "fault tests" tests/faults "$@"
else
    [ -L .venv/workers ] || beside workers "unit tests" tests/unit "$@"
    run trainer "unit tests" tests/unit "$@"
    finish
    if [ "$which" != unit ]; then
        beside trainer "fault tests, examples" tests/faults tests/examples "$@"
        run trainer "integration tests" tests/integration "$@"
        finish
    fi
fi

[ $failed = 0 ] || exit $failed
[ $ran = 1 ] || { echo "stoker: no test was selected" >&2; exit 5; }

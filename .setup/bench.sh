# Runs the benchmarks, after making their environments: Stoker's own, and one for each of its peers. A peer whose
# environment cannot be made is reported and left out of the tables.
# usage: sh .setup/bench.sh [ARGUMENT...]      from the repository's root; arguments are those of `python -m benchmarks`
set -eu

sh .setup/environment.sh trainer tests # psutil
sh .setup/environment.sh workers storage
for name in workers-simd bench-pictures bench-limit bench-tensorpack bench-torch bench-grain bench-tensorflow \
    stores; do
    sh .setup/environment.sh "$name" || true
done
[ -x .venv/bench-pictures/bin/python ] || exit 1 # which draws the pictures
exec .venv/trainer/bin/python -m benchmarks "$@"

## make train         trains on sample pictures (made first), or on DATA=folder; EPOCHS=5 WORKERS=4 ARGS="--seed 1"
## make example       runs an example of examples/: NAME=driving EPOCHS=4 WORKERS=3 RANKS=2 (docs/EXAMPLES.md)
## make test          runs every test: unit tests on both Pythons, then integration and fault tests; ARGS="-k name"
## make unit          runs only the unit tests, on both Pythons; ARGS="-k name"
## make faults        runs only the fault tests, and prints the table of faults and results; ARGS="-k name"
## make fuzz          sends broken messages to codec, coordinator and port, decodes broken pictures, for two minutes; RUNS=10000000
## make soak          runs 100,000 batches and checks that memory and files do not grow; BATCHES=100000 SEED=0 OWN=1 SHARED_MEMORY=0
## make cycles        kills 1,000 trainings at random moments and checks that nothing is left; CYCLES=1000 SEED=0
## make compose-test  runs the commands of README and docs/DOCKER.md, and faults, with a real Docker engine; ARGS="-k name"
## make engines-test  tests Ray, Slurm, Horovod, Kubernetes' manifests, stores, the status page and Prometheus, with the programs themselves; ARGS="-k name"
## make screenshots   makes docs/pictures/*.png, the pictures of the status page in README, from a real run
## make kube-test     applies deploy/kubernetes to a real Kubernetes of one node, which it builds the first time; ARGS="-k name"
## make bench         runs all benchmarks of Stoker and its peers (docs/BENCHMARKS.md), 40 minutes; QUICK=1: 3 minutes
## make pillow-simd   makes .venv/workers-simd, the environment of SIMD=1
## make lint          runs ruff, mypy, hadolint and shellcheck
## make sample-data   makes the pictures that `make train` uses, in sample-data/
## make setup         makes the environments of trainer and workers in .venv/: all that `make train` needs
## make setup-test    makes the same with the test tools: all that `make test` needs
## make clean         removes environments and caches; keeps sample-data/ and runs/
##
## Variables of every target: PYTHON36=/path/to/python3.6 for the trainer, WORKER_PYTHON=python3.13 for the workers
## (default: the newest that is found). ARGS is passed on to the trainer or to pytest. SIMD=1, of train and example: the
## workers have pillow-simd, which resizes faster (docs/SPEED.md).

.PHONY: help train example test unit faults compose-test engines-test kube-test fuzz soak cycles bench screenshots pillow-simd lint sample-data setup setup-test clean
.NOTPARALLEL:

export PYTHON36 WORKER_PYTHON DATA EPOCHS WORKERS RANKS

ifneq ($(filter-out 0,$(SIMD)),)
export STOKER_WORKER_PYTHON = .venv/workers-simd/bin/python
train example: pillow-simd
endif

help:
	@sed -n 's/^## \{0,1\}//p' Makefile

train: setup
	@exec sh .setup/train.sh $(ARGS)

example: setup
	@exec sh .setup/example.sh $(NAME) $(ARGS)

test: setup-test
	@exec sh .setup/test.sh all $(ARGS)

unit: setup-test
	@exec sh .setup/test.sh unit $(ARGS)

faults: setup-test
	@exec sh .setup/test.sh faults $(ARGS)

compose-test:
	@exec sh .setup/compose-test.sh $(ARGS)

engines-test:
	@exec sh .setup/engines-test.sh $(ARGS)

screenshots:
	@exec sh .setup/screenshots.sh

kube-test:
	@exec sh .setup/kube-test.sh $(ARGS)

fuzz: setup-test
	@exec sh .setup/fuzz.sh $(RUNS)

soak: setup-test
	@STOKER_TEST_WORKER_PYTHON=.venv/workers/bin/python exec .venv/trainer/bin/python -m tests.soak.soak \
		--batches $(or $(BATCHES),100000) --seed $(or $(SEED),0) $(if $(OWN),--own) $(if $(filter 0,$(SHARED_MEMORY)),--no-shared-memory)

cycles: setup-test
	@STOKER_TEST_WORKER_PYTHON=.venv/workers/bin/python exec .venv/trainer/bin/python -m tests.soak.cycles \
		--cycles $(or $(CYCLES),1000) --seed $(or $(SEED),0)

bench:
	@exec sh .setup/bench.sh $(if $(QUICK),--quick) $(ARGS)

pillow-simd:
	@exec sh .setup/environment.sh workers-simd storage

lint: setup
	@exec sh .setup/lint.sh

sample-data: setup
	@exec .venv/workers/bin/python -m stoker.pipeline.sources.sample_data sample-data

setup:
	@sh .setup/environment.sh trainer storage metrics
	@sh .setup/environment.sh workers storage

setup-test:
	@sh .setup/environment.sh trainer tests metrics
	@sh .setup/environment.sh workers tests
	@sh .setup/environment.sh build
	@sh .setup/environment.sh same-pillow
	@sh .setup/pillow-pictures.sh

clean:
	rm -rf .venv .cache build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find pipeline workers trainer inspection packing tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

# Tests deploy/kubernetes and docs/KUBERNETES.md with a real Kubernetes of one node, in namespaces of their own: as root,
# on Debian 12. The first time, Kubernetes is built (10 minutes on two cores), and so are the images of trainer and
# workers; both stay in the user's cache folder.
# usage: sh .setup/kube-test.sh [PYTEST ARGUMENT...]      from the repository's root
set -eu

sh .setup/environment.sh trainer tests
sh .setup/environment.sh workers tests
sh .setup/environment.sh kube
STOKER_TEST_KUBERNETES=$(sh .setup/kube-build.sh)
STOKER_TEST_KUBERNETES_NODE=$(sh .setup/debian-programs.sh kubernetes-node)
STOKER_TEST_KUBERNETES_IMAGES=$(sh .setup/kube-images.sh)
export STOKER_TEST_KUBERNETES STOKER_TEST_KUBERNETES_NODE STOKER_TEST_KUBERNETES_IMAGES
export STOKER_TEST_WORKER_PYTHON=.venv/workers/bin/python STOKER_TEST_PYTHON36=.venv/trainer/bin/python
exec .venv/trainer/bin/python -m pytest tests/kube "$@"

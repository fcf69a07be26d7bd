"""deploy/kubernetes and the commands of docs/KUBERNETES.md, in a real Kubernetes. Whatever happens to Pods and to the
node, the audit is that of an undisturbed run. The NetworkPolicies are only accepted: this node enforces none."""

import json
import os
import re
import sys
import time

import pytest

from tests.kube.cluster import API
from tests.kube.training import GUIDE, STATUS_TOKEN, Training, undisturbed, wait_for, write_pictures
from tests.support.documents import block

pytestmark = pytest.mark.needs("namespaces", "debian", "environment kube")

TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
EXACT = {"STOKER_DECODE": "exact", "STOKER_AUDIT": "/runs/audit.jsonl"}
PICTURES, EPOCHS = 480, 40        # 48 steps of 8 in each
PACED = dict(EXACT, STOKER_MODEL="paced:model", STOKER_AUGMENT="paced:picture", STOKER_BATCH_SIZE="8",
             STOKER_IMAGE_SIZE="32", STOKER_EPOCHS=str(EPOCHS), STOKER_CHECKPOINT_SECS="5", STOKER_MAX_WORKERS="3",
             PACED_FILE="/runs/pace")
PACED_WORKERS = {"STOKER_ALLOW_GENERATOR": "paced:picture", "PACED_PICTURE_S": "0.005"}
#: Goes on after the command that forwards the status page's port: asks for the page, and ends the command.
FORWARDED = """ &
forward=$!
trap 'kill $forward' EXIT
for attempt in $(seq 100); do
    ! '%s' -c 'import urllib.request as u; url = "http://127.0.0.1:8265/"
for page in ("", "details.json"): print(u.urlopen(url + page, timeout=9).read().decode())' || exit 0
    sleep 0.2
done
exit 1
"""
#: Seconds for each step: one worker, which takes 40 ms for a batch, is enough for the one, and three for the other.
SLOW, FAST = "0.5", "0.015"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(str(tmp_path_factory.mktemp("pictures") / "photos"), PICTURES)


@pytest.fixture(scope="module")
def expected(pictures, tmp_path_factory):
    """A function: what an undisturbed run trains on. It runs meanwhile."""
    with undisturbed(pictures, tmp_path_factory.mktemp("undisturbed"), PACED) as finished:
        yield finished


@pytest.fixture(scope="module")
def training(cluster, pictures, expected, tmp_path_factory):
    """A long training on the pictures of a volume, which the tests below disturb, in their order."""
    made = Training(cluster, tmp_path_factory.mktemp("disturbed"), PACED, PACED_WORKERS, pictures)
    pace(made, SLOW)
    made.claim_pictures()
    made.type("prepare")
    made.type("apply")
    made.wait_for_pod("trainer")
    made.wait_for_pod("worker")
    made.wait_for_steps(10)
    return made


def pace(training, seconds):
    path = os.path.join(training.runs, "pace")
    with open(path + ".new", "w") as file:
        file.write(seconds)
    os.rename(path + ".new", path)


def test_the_guide(cluster, tmp_path, figures):
    """Kubernetes: docs/KUBERNETES.md word for word: keys, apply, the page, watch to the end, checkpoints, clean up"""
    made = Training(cluster, tmp_path, dict(EXACT, STOKER_IMAGE_SIZE="32", STOKER_MODEL="paced:model",
                                            PACED_FILE="/runs/pace"), {})
    pace(made, SLOW)
    try:
        made.type("prepare")
        started_s = time.monotonic()
        made.type("apply")
        made.wait_for_pod("worker")
        figures("from apply to a worker that is served: %.1f s" % (time.monotonic() - started_s))
        forwarded = made.run(block(GUIDE, "kubernetes: page").rstrip("\n") + FORWARDED % sys.executable)
        found = json.loads(re.search(r"^\{.*", forwarded, re.MULTILINE).group())
        assert found["steps"] == 50 and found["worker_table"]      # no token, and all that the page shows
        assert "<html" in forwarded
        shown = made.exec(made.wait_for_pod("trainer"), "stoker-top")
        assert all(row["host"] in shown for row in found["worker_table"]), shown
        pace(made, "0")
        said = made.type("watch")
        assert "condition met" in said and "done after step" in said
        made.wait_for_end()
        made.type("checkpoints")
        found = os.listdir(os.path.join(made.clone, "runs", "training"))
        assert "checkpoint" in found and any(name.startswith("events.out.tfevents") for name in found)
        sample = write_pictures(str(tmp_path / "sample"), 400)
        with undisturbed(sample, tmp_path, dict(EXACT, STOKER_IMAGE_SIZE="32")) as finished:
            expected = finished()
        assert len(expected) == 50 and made.consumed() == expected
        made.type("clean up")
        assert "stoker" not in cluster.kubectl("get", "namespaces")
    except Exception:       # Ctrl-C ends the cluster, which is enough
        made.explain()
        made.remove()
        raise
    made.remove()


def test_rights_of_the_pods(training):
    """Kubernetes: Pods have no root, no place to write but volumes, keys for their user only, workers no token"""
    for component, secret in (("trainer", "trainer.key_secret"), ("worker", "worker.key_secret")):
        pod = training.wait_for_pod(component)
        said = training.exec(pod, "sh", "-c", "id -u; stat -c %%a /keys/own/%s; ls /keys/own" % secret).split()
        assert said[:2] == ["1000", "600"] and secret in said
        assert ("trainer.key_secret" in said) == (component == "trainer")
        for path in ("/app/new", "/etc/new", "/keys/own/new", "/data/new"):
            code, said = training.exec(pod, "touch", path, check=False)
            assert code != 0 and "Read-only file system" in said
        token = training.exec(pod, "ls", TOKEN_FOLDER, check=False)[0] == 0
        assert token == (component == "trainer")


def test_the_role(training):
    """Kubernetes: the trainer's token may set the scale of the Deployment, and nothing else"""
    token = training.exec(training.wait_for_pod("trainer"), "cat", TOKEN_FOLDER + "/token")
    own = ["--kubeconfig=/dev/null", "--server=" + API, "--insecure-skip-tls-verify", "--token=" + token.strip(),
           "-n", "stoker"]

    def may(*what):
        return training.cluster.kubectl(*(own + ["auth", "can-i", "-q"] + list(what)), check=False)[0] == 0
    assert may("patch", "deployments/worker", "--subresource=scale")
    for what in (["patch", "deployments/other", "--subresource=scale"], ["patch", "deployments/worker"],
                 ["delete", "deployments/worker"], ["get", "deployments/worker"], ["list", "deployments"],
                 ["update", "deployments/worker", "--subresource=scale"], ["get", "secrets"], ["list", "pods"],
                 ["create", "pods"], ["delete", "pods"], ["create", "pods", "--subresource=exec"], ["create", "jobs"],
                 ["patch", "jobs/trainer"], ["get", "configmaps"], ["get", "nodes"], ["*", "*"],
                 ["patch", "deployments/worker", "--subresource=scale", "--namespace=default"]):
        assert not may(*what), what
    for arguments in (["get", "secrets"], ["delete", "deployment", "worker"], ["get", "pods", "-n", "kube-system"]):
        code, said = training.cluster.kubectl(*(own + arguments), check=False)
        assert code != 0 and "forbidden" in said.lower()


def test_the_status_address(training):
    """Kubernetes: with the overlay status, the trainer's status address answers by its Service, with the token"""
    ask = ("import sys, urllib.request as u; print(u.urlopen(u.Request('http://trainer:8265/status.json', headers={"
           "'Authorization': 'Bearer ' + sys.argv[1]}), timeout=9).read().decode())")
    worker = training.wait_for_pod("worker")
    found = json.loads(training.exec(worker, "python", "-c", ask, STATUS_TOKEN))["workers"]
    assert (found["min"], found["max"]) == (1, 3) and found["min"] <= found["wanted"] <= found["max"]
    code, said = training.exec(worker, "python", "-c", ask, "another", check=False)
    assert code != 0 and "401" in said


def test_scaling(training, figures):
    """Kubernetes: the trainer scales the workers 1 -> 3 -> 1 as its need changes"""
    def replicas():
        return training.cluster.get("deployment", "worker")["spec"]["replicas"]

    def ready():
        return training.cluster.get("deployment", "worker")["status"].get("readyReplicas", 0)
    wait_for(lambda: replicas() == ready() == 1, "one worker at first")
    for seconds, count in ((FAST, 3), (SLOW, 1)):
        pace(training, seconds)
        started_s = time.monotonic()
        wait_for(lambda: replicas() == count, "%d wanted" % count)              # noqa: B023
        wanted_s = time.monotonic() - started_s
        wait_for(lambda: ready() == count and len(training.pods("worker")) == count, "%d ready" % count)  # noqa: B023
        figures("%d workers: the Deployment is scaled after %.1f s, they are there after %.1f s" % (
            count, wanted_s, time.monotonic() - started_s))
        training.wait_for_steps(10)


def delete_pod(training, component):
    """Deletes a Pod, and waits for another one and for further steps."""
    pod = training.wait_for_pod(component)
    training.cluster.kubectl("-n", "stoker", "delete", "pod", pod["metadata"]["name"])
    training.wait_for_pod(component, other_than=[pod])
    training.wait_for_steps(10)


def test_worker_pod_deleted(training):
    """Kubernetes: a worker's Pod is deleted"""
    delete_pod(training, "worker")


def test_worker_killed(training):
    """Kubernetes: a worker's container is killed"""
    pod = training.wait_for_pod("worker")
    training.cluster.kill_container(pod, "-m workers")
    wait_for(lambda: [each for each in training.pods("worker") if each["metadata"]["uid"] == pod["metadata"]["uid"]
                      and any(one["restartCount"] for one in each["status"]["containerStatuses"])], "its restart")
    training.wait_for_pod("worker")
    training.wait_for_steps(10)


def test_trainer_killed(training):
    """Kubernetes: the trainer's container is killed: another Pod goes on from its volume"""
    pod = training.wait_for_pod("trainer")
    training.cluster.kill_container(pod, "-m trainer")
    training.wait_for_pod("trainer", other_than=[pod])
    training.wait_for_steps(10)


def test_trainer_pod_deleted(training):
    """Kubernetes: the trainer's Pod is deleted: another one goes on from its volume"""
    delete_pod(training, "trainer")


def test_kubelet_and_containerd_killed(training):
    """Kubernetes: kubelet and containerd are killed: the training goes on without them, and they find it again"""
    pods = training.wait_for_pod("trainer"), training.wait_for_pod("worker")
    training.cluster.kill_node(with_containers=False)
    training.wait_for_steps(10)
    training.cluster.start_node()
    training.wait_for_steps(10)
    assert [training.wait_for_pod(name)["metadata"]["uid"] for name in ("trainer", "worker")] == [
        pod["metadata"]["uid"] for pod in pods]


def test_node_restarted(training):
    """Kubernetes: the node restarts: kubelet, containerd and all containers are killed, and it starts again"""
    pod = training.wait_for_pod("trainer")
    training.cluster.kill_node(with_containers=True)
    training.cluster.start_node()
    training.wait_for_pod("trainer", other_than=[pod])
    training.wait_for_steps(10)


def test_the_audit_is_that_of_an_undisturbed_run(training, expected):
    """Kubernetes: after all of this, the audit equals that of an undisturbed run; the workers are scaled to 0"""
    pace(training, "0")
    training.wait_for_end()
    assert len(expected()) == 48 * EPOCHS and training.consumed() == expected()
    wait_for(lambda: training.cluster.get("deployment", "worker")["spec"]["replicas"] == 0, "no worker at the end")

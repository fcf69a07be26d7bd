"""A training in the cluster, set up as docs/KUBERNETES.md says, in a clone of the repository."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager

from stoker.pipeline.sources import sample_data
from tests.kube.cluster import LIMIT_S
from tests.support import checkout, processes
from tests.support.documents import block
from tests.support.processes import ROOT, interpreter
from tests.support.training import audit, consumed

GUIDE = "docs/KUBERNETES.md"
STATUS_TOKEN = "token-of-the-status-address-of-a-test"
OVERLAY = os.path.join("tests", "kube", "overlay")
STOKER_KEYS = '#!/bin/sh\nPYTHONPATH="%s" exec "%s" -m stoker.pipeline.transport.keys "$@"\n' % (ROOT, sys.executable)


def wait_for(condition, what, limit_s=LIMIT_S):
    """The first true value of ``condition()``, which asks the API server and so is asked less often."""
    return processes.wait_for(condition, what, limit_s, every_s=0.2)


class Training:
    """``folder``: a new one, for the clone and the volumes. ``settings``, ``worker_settings``: lines of trainer.env and
    worker.env. ``pictures``: a folder, for the overlay pvc, with which goes the overlay status; without it the pictures
    are the sample."""

    def __init__(self, cluster, folder, settings, worker_settings, pictures=None):
        self.cluster = cluster
        self.clone = checkout.clone(os.path.join(str(folder), "stoker"))
        self.runs = os.path.join(str(folder), "runs")
        os.mkdir(self.runs)
        os.chmod(self.runs, 0o777)
        bin_folder = os.path.join(str(folder), "bin")
        os.mkdir(bin_folder)
        with open(os.path.join(bin_folder, "stoker-keys"), "w") as file:
            file.write(STOKER_KEYS)
        os.chmod(os.path.join(bin_folder, "stoker-keys"), 0o755)
        path = os.pathsep.join([bin_folder, cluster.environment["PATH"]])
        self._environment = ["env", "REGISTRY=docker.io/library", "PATH=" + path]
        self._write("trainer.env", settings)
        self._write("worker.env", worker_settings)
        self._edit("components:\n", "components:\n- ../../%s\n" % OVERLAY)
        self._volumes = []
        self._volume("runs", self.runs, "ReadWriteOnce")
        if pictures:
            self._edit("\n#- overlays/pvc ", "\n- overlays/pvc ")
            self._edit("\n#- overlays/status ", "\n- overlays/status ")
            with open(self._path("overlays/status/token"), "w") as file:
                file.write(STATUS_TOKEN)
            self._volume("pictures", pictures, "ReadOnlyMany")

    def _path(self, name):
        return os.path.join(self.clone, "deploy", "kubernetes", name)

    def _write(self, name, settings):
        with open(self._path(name)) as file:
            lines = [line for line in file.read().splitlines() if line.partition("=")[0] not in settings]
        with open(self._path(name), "w") as file:
            file.write("\n".join(lines + ["%s=%s" % pair for pair in sorted(settings.items())]) + "\n")

    def _edit(self, old, new):
        with open(self._path("kustomization.yaml")) as file:
            text = file.read()
        assert old in text
        with open(self._path("kustomization.yaml"), "w") as file:
            file.write(text.replace(old, new))

    def _volume(self, name, folder, mode):
        """What a storage class of a real cluster would make: a volume for the claim ``name``."""
        self._apply({"kind": "PersistentVolume", "metadata": {"name": name}, "spec": {
            "capacity": {"storage": "10Gi"}, "accessModes": [mode], "hostPath": {"path": folder},
            "claimRef": {"namespace": "stoker", "name": name}}})
        self._volumes.append(name)

    def claim_pictures(self):
        """What a user brings for the overlay pvc."""
        self._apply({"kind": "Namespace", "metadata": {"name": "stoker"}})
        self._apply({"kind": "PersistentVolumeClaim", "metadata": {"name": "pictures", "namespace": "stoker"}, "spec": {
            "accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "10Gi"}}}})

    def _apply(self, thing):
        path = os.path.join(os.path.dirname(self.clone), "thing.json")
        with open(path, "w") as file:
            json.dump(dict(thing, apiVersion="v1"), file)
        self.cluster.kubectl("apply", "-f", path)

    def type(self, mark):
        """Runs the block of docs/KUBERNETES.md with this mark, as a user types it. Returns what it writes."""
        return self.run(block(GUIDE, "kubernetes: " + mark))

    def run(self, commands):
        """Runs these commands, as a user types them. Returns what they write."""
        said = self.cluster.run(*(self._environment + ["sh", "-e", "-c", commands]), cwd=self.clone)
        print(said)
        return said

    def pods(self, component):
        """Its Pods that are not about to end, the newest first."""
        found = self.cluster.get("pods", "-l", "app.kubernetes.io/component=" + component)
        found = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]
                 and pod["status"]["phase"] in ("Pending", "Running")]
        return sorted(found, key=lambda pod: pod["metadata"]["creationTimestamp"], reverse=True)

    def wait_for_pod(self, component, ready=True, other_than=()):
        """Its newest Pod, when it is ready; none of ``other_than``."""
        def found():
            names = {pod["metadata"]["name"] for pod in other_than}
            return [pod for pod in self.pods(component) if pod["metadata"]["name"] not in names
                    and (is_ready(pod) or not ready)]
        try:
            return wait_for(found, "a Pod of the %s that is ready" % component)[0]
        except AssertionError:
            self.explain()
            raise

    def exec(self, pod, *command, check=True):
        """What the command writes in the Pod's main container; if not ``check``, (exit code, what it writes)."""
        container = pod["spec"]["containers"][0]["name"]
        return self.cluster.kubectl("-n", "stoker", "exec", pod["metadata"]["name"], "-c", container, "--", *command,
                                    check=check)

    def step(self):
        """The number of the last step in the audit; -1 while there is none."""
        lines = audit(os.path.join(self.runs, "audit.jsonl"))
        return lines[-1]["step"] if lines else -1

    def wait_for_steps(self, more):
        """Until so many more are done than now."""
        goal = self.step() + more
        try:
            wait_for(lambda: self.step() >= goal, "step %d" % goal)
        except AssertionError:
            self.explain()
            raise

    def wait_for_end(self):
        """Until the Job has succeeded."""
        try:
            wait_for(lambda: self.cluster.get("job", "trainer")["status"].get("succeeded"), "the end of the training",
                     2 * LIMIT_S)
        finally:
            self.explain()

    def consumed(self):
        """What was trained on, in order."""
        return consumed(audit(os.path.join(self.runs, "audit.jsonl")))

    def explain(self):
        """Prints what Kubernetes and the Pods say."""
        for arguments in (["get", "pods,deployments,jobs"], ["get", "events", "--sort-by=.lastTimestamp"],
                          ["logs", "job/trainer", "--tail=40"],
                          ["logs", "-l", "app.kubernetes.io/component=worker", "--tail=20"]):
            print("\n".join(self.cluster.kubectl("-n", "stoker", *arguments, check=False)[1].splitlines()[-60:]))

    def remove(self):
        self.cluster.kubectl("delete", "namespace", "stoker", "--ignore-not-found", "--timeout=120s", check=False)
        self.cluster.kubectl("delete", "pv", "--ignore-not-found", *self._volumes, check=False)


def is_ready(pod):
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", []))


def write_pictures(folder, count):
    """Sample pictures, as a worker's Pod makes them: with the same Pillow, on which the bytes of a JPEG may depend."""
    python = interpreter("STOKER_TEST_WORKER_PYTHON")
    subprocess.run([python, "-m", sample_data.__name__, folder, "--count", str(count)], cwd=ROOT, check=True,
                   timeout=LIMIT_S)
    return folder


@contextmanager
def undisturbed(pictures, folder, settings):
    """Starts a run outside of the cluster, with one local worker. It is a function, which waits for its end and returns
    what it trained on."""
    path, log = os.path.join(str(folder), "audit.jsonl"), os.path.join(str(folder), "log")
    options = dict(settings, STOKER_AUDIT=path, STOKER_CHECKPOINT_DIR=os.path.join(str(folder), "run"))
    for name in ("STOKER_MIN_WORKERS", "STOKER_MAX_WORKERS"):
        options.pop(name, None)
    with open(log, "w") as output:
        process = subprocess.Popen([sys.executable, "-m", "trainer", pictures, "--workers", "1", "--worker-python",
                                    interpreter("STOKER_TEST_WORKER_PYTHON")], cwd=os.path.join(ROOT, OVERLAY),
                                   env=dict(os.environ, PYTHONPATH=ROOT, **options), stdout=output,
                                   stderr=subprocess.STDOUT)

    def finished():
        code = process.wait(2 * LIMIT_S)
        with open(log) as said:
            assert code == 0, said.read()
        return consumed(audit(path))
    try:
        yield finished
    finally:
        process.terminate()         # it ends its worker
        process.wait(LIMIT_S)

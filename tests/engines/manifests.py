"""deploy/kubernetes as a user gets it: a copy with keys and the chosen overlays, built by kustomize to objects."""

import json
import os
import shutil
import subprocess

from stoker.pipeline.transport import keys
from tests.engines.needs import python_of
from tests.support.processes import ROOT

SOURCE = os.path.join(ROOT, "deploy", "kubernetes")
FILES = {"overlays/status/token": "0" * 64, "overlays/bucket/rclone.conf": "[photos]\ntype = s3\n"}
TO_JSON = "import json, sys, yaml; json.dump([each for each in yaml.safe_load_all(sys.stdin) if each], sys.stdout)"


def tool(name):
    """The path of a program of .venv/kube."""
    return os.path.join(os.path.dirname(python_of("kube")), name)


def run(command, text_in=None, check=True):
    """(exit code, standard output, standard error) of the command."""
    done = subprocess.run(command, input=text_in, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          universal_newlines=True, timeout=120)
    assert not check or done.returncode == 0, "exit code %d: %s\n%s%s" % (
        done.returncode, " ".join(command), done.stdout, done.stderr)
    return done.returncode, done.stdout, done.stderr


def copy(folder, *overlays):
    """Copies deploy/kubernetes into the new ``folder``, makes the keys and other files that a user makes, and removes
    the # before the lines of ``overlays``, as the comment there says."""
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("keys", "token", "rclone.conf"))
    keys.make(os.path.join(folder, "keys"))
    for path, text in FILES.items():
        with open(os.path.join(folder, path), "w") as file:
            file.write(text)
    path = os.path.join(folder, "kustomization.yaml")
    with open(path) as file:
        text = file.read()
    for overlay in overlays:
        assert "\n#- overlays/%s " % overlay in text
        text = text.replace("\n#- overlays/%s " % overlay, "\n- overlays/%s " % overlay)
    with open(path, "w") as file:
        file.write(text)
    return folder


def build(folder):
    """The manifests that ``kubectl apply -k FOLDER`` would apply, as one YAML text."""
    return run([tool("kubectl"), "kustomize", folder])[1]


def objects(text):
    """The objects of a YAML text."""
    return json.loads(run([python_of("kube"), "-c", TO_JSON], text)[1])

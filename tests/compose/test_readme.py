"""The commands of README.md and docs/DOCKER.md, word for word but for the names of host, folder and Swarm."""

import json
import os
import re
import subprocess

import pytest

from tests.compose.project import LIMIT_S, Project, compose_command, docker, images_of, state, wait_for
from tests.support.asking import ask
from tests.support.documents import block

README, GUIDE = "README.md", "docs/DOCKER.md"


class Shell:
    """Runs blocks of commands in one folder, as a user types them; `docker-compose` is this machine's Compose."""

    def __init__(self, folder, environment, bin_folder):
        self._folder = folder
        os.makedirs(bin_folder, exist_ok=True)
        path = os.path.join(bin_folder, "docker-compose")
        with open(path, "w") as file:
            file.write('#!/bin/sh\nPATH=${PATH#*:}\nexec %s "$@"\n' % " ".join(compose_command()))
        os.chmod(path, 0o755)
        self.environment = dict(environment, PATH=bin_folder + ":" + os.environ["PATH"])

    def run(self, commands, **environment):
        done = subprocess.run(["sh", "-e", "-c", commands], cwd=self._folder, stdout=subprocess.PIPE, timeout=580,
                              env=dict(self.environment, **environment), stderr=subprocess.STDOUT,
                              universal_newlines=True)
        print(done.stdout)
        assert done.returncode == 0, "exit code %d: %s" % (done.returncode, commands)
        return done.stdout


@pytest.fixture
def typed(project, tmp_path):
    """(the project, a shell in its clone). Unlike in other tests, RUNS and DATA have their defaults."""
    for name in ("RUNS", "DATA", "STOKER_AUDIT"):
        del project.environment[name]
    return project, Shell(project.clone, project.environment, str(tmp_path / "bin"))


def test_one_command(typed):
    """README: one command trains on sample pictures to the end, and again from the checkpoint"""
    project, shell = typed
    said = shell.run(block(README, "compose: one command"), STOKER_EPOCHS="1")
    for line in (r"first start: making keys", r"no pictures in ./data", r"2,000 images in 2 classes",
                 r"epoch 1/1: 100%.*images/s", r"done after step 200:"):
        assert re.search(line, said), line
    assert len(re.findall(" joined ", said)) == 2
    assert state(project.trainer)["ExitCode"] == 0
    assert not project.containers("trainer") and not project.containers("worker")
    said = shell.run(block(README, "compose: one command"), STOKER_EPOCHS="2")
    assert "going on from step 200 of 400" in said and "done after step 400:" in said and "making keys" not in said
    said = shell.run(block(README, "compose: one command"), STOKER_EPOCHS="2")
    assert "nothing left to train" in said
    assert not os.listdir(os.path.join(project.clone, "data")) or os.listdir(
        os.path.join(project.clone, "data")) == [".gitignore"]


def test_in_the_background(typed, pictures):
    """docs/DOCKER.md: in the background, scaled, and its checkpoints taken out"""
    project, shell = typed
    said = shell.run(block(GUIDE, "compose: in the background").replace("/mnt/photos", pictures), STOKER_EPOCHS="8")
    assert "done after step 384" in said and len(re.findall(" joined ", said)) >= 2
    found = os.listdir(os.path.join(project.clone, "runs", "photos"))
    assert "checkpoint" in found and any(name.startswith("events.out.tfevents") for name in found)
    assert not project.containers("worker", running=False)
    assert len(docker("volume", "ls", "--quiet", "--filter", "name=" + project.name).split()) == 6
    shell.run("rm -r runs")


def test_on_several_hosts(typed, pictures, clone, images, tmp_path):
    """docs/DOCKER.md: workers on another host (another project of the same engine), with the keys brought there"""
    project, shell = typed
    options = dict(DATA=pictures, WORKERS="0", PUBLISH="0",     # on any free port
                   **dict(zip(("TRAINER_IMAGE", "WORKER_IMAGE"), images_of("stoker-test-not-yet-built"))))
    shell.run(block(GUIDE, "compose: trainer host"), **options)
    gateway = docker("network", "inspect", project.name + "_default", "--format",
                     "{{(index .IPAM.Config 0).Gateway}}")       # an address of this host
    published = docker("port", project.trainer, "5555").split()[0].rpartition(":")[2]
    other = Project(clone, images, str(tmp_path / "other"))
    del other.environment["RUNS"]
    try:
        Shell(clone, other.environment, str(tmp_path / "bin")).run(
            block(GUIDE, "compose: worker host").replace("/mnt/photos", pictures).replace("gpu-host:5555", "%s:%s"
                                                                             % (gateway, published)))
        other.wait_for_log("connected to run", "worker")
        project.wait_for_end()
        assert len(re.findall(" joined ", project.log())) == 16 and not project.containers("worker")
        assert re.search("come over TCP: it is on another host", project.log())
        assert len(other.containers("worker")) == 1
    finally:
        other.compose("-f", "docker-compose.worker.yml", "down", "--volumes", DATA=pictures, TRAINER="-:1", check=False)
        docker("image", "rm", "--force", *images_of("stoker-test-not-yet-built"), check=False)


def test_tensorboard(project):
    """docs/DOCKER.md: TensorBoard beside the training"""
    files = ["-f", "docker-compose.yml", "-f", "docker-compose.tensorboard.yml"]
    project.compose(*(files + ["up", "-d"]), TENSORBOARD_PORT="0", STOKER_EPOCHS="1000")     # not over before it starts
    try:
        board = wait_for(lambda: project.containers("tensorboard"), "TensorBoard")[0]
        assert docker("port", board, "6006").startswith("127.0.0.1:")
        wait_for(lambda: state(board)["Health"]["Status"] == "healthy", "TensorBoard's health")
        project.wait_for_steps(10)
        ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:6006/data/runs', timeout=9).read())"
        wait_for(lambda: "photos" in docker("exec", board, "python", "-c", ask, check=False), "the run in TensorBoard")
    finally:
        project.compose(*(files + ["down", "--volumes", "--timeout", "1"]), check=False)


def page_of(shell, commands):
    """(URL, token) that the commands print, once the page answers."""
    try:
        said = re.search(r"^(http://\S+)/#token=([0-9a-f]{64})$", shell.run(commands), re.MULTILINE)
        ask(said.group(1))
        return said.groups()
    except (AssertionError, AttributeError, OSError):        # no container, no token, no answer yet
        return None


def test_swarm(typed, pictures):
    """docs/DOCKER.md: a Swarm of one node, the workers' keys as secrets, the status page for the manager alone"""
    if docker("info", "--format", "{{.Swarm.LocalNodeState}}") != "inactive":
        pytest.skip("this engine is part of a Swarm already")
    if not os.environ.get("STOKER_THROW_AWAY_ENGINE"):
        pytest.skip("only with a throw-away engine (or STOKER_THROW_AWAY_ENGINE=1): it becomes a Swarm")
    project, shell = typed
    stack = project.name
    docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    try:
        commands = re.sub(r"(-p )stoker\b|( )stoker$|( )stoker(?=_worker)", r"\1\2\3" + stack,
                          block(GUIDE, "compose: swarm"), flags=re.MULTILINE)
        # a run that is not over before all workers are healthy: the engine asks them every 15 s
        shell.run(commands, DATA=pictures, STOKER_EPOCHS="48")
        service = stack + "_trainer"
        look = block(GUIDE, "compose: swarm page").replace("stoker_trainer", service)
        url, token = wait_for(lambda: page_of(shell, look), "the status page")
        assert ask(url)[0] == 401 and ask(url, token=token)[0] == 200
        assert not docker("service", "inspect", "--format", "{{range .Endpoint.Ports}}{{.}}{{end}}", service)
        assert not docker("port", docker("ps", "--quiet", "--filter", "name=" + service))
        wait_for(lambda: docker("service", "ls", "--format", "{{.Replicas}}", "--filter",
                                "name=%s_worker" % stack) == "6/6", "six healthy workers")
        wait_for(lambda: "Complete" in docker("service", "ps", "--format", "{{.CurrentState}}", service),
                 "the end of the training", 3 * LIMIT_S)
        said = docker("service", "logs", "--raw", service)
        limits = json.loads(docker("service", "inspect", "--format", "{{json .Spec.TaskTemplate.Resources.Limits}}",
                                   stack + "_worker"))
        assert limits == {"MemoryBytes": 4 << 30, "Pids": 4096}
        assert "done after step 2304" in said and "come through shared memory" in said
        assert len(re.findall(" joined ", said)) >= 6
    finally:
        docker("stack", "rm", stack, check=False)
        wait_for(lambda: not docker("ps", "--quiet", "--all", "--filter", "name=%s_" % stack), "the stack's end")
        docker("swarm", "leave", "--force")
        for volume in docker("volume", "ls", "--quiet", "--filter", "name=" + stack).split():
            docker("volume", "rm", volume, check=False)

"""One `docker-compose` project of a test: its containers by service, its logs, its audit. Every wait has a limit."""

import json
import os
import re
import shutil
import subprocess
import uuid

from tests.support import processes
from tests.support.checkout import ROOT  # noqa: F401

LIMIT_S = 180.0      # of each wait, so that a broken program fails the test


def compose_command():
    """`docker-compose` if there is one, else `docker compose`; STOKER_TEST_COMPOSE says otherwise."""
    asked = os.environ.get("STOKER_TEST_COMPOSE")
    return asked.split() if asked else ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]


def docker(*arguments, check=True, text_in=None):
    """Standard output and error of `docker ARGUMENT...`, which has to succeed if ``check``."""
    done = subprocess.run(["docker"] + list(arguments), input=text_in, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          universal_newlines=True, timeout=LIMIT_S)
    assert not check or done.returncode == 0, "docker %s: exit code %d: %s" % (
        " ".join(arguments), done.returncode, done.stdout)
    return done.stdout.strip()


def images_of(prefix):
    return prefix + "-trainer", prefix + "-worker"


def wait_for(condition, what, limit_s=LIMIT_S):
    """The first true value of ``condition()``, which asks Docker and so is asked less often."""
    return processes.wait_for(condition, what, limit_s, every_s=0.2)


def state(container):
    """Docker's account of the container: Status, ExitCode, Health ..."""
    return json.loads(docker("inspect", "--format", "{{json .State}}", container))


def health(container):
    return state(container)["Health"]["Status"]


def crash(container):
    """SIGKILL to the container's program, from within: as if memory had run out. (`docker kill` counts as asked for,
    and no restart policy answers it.)"""
    docker("exec", container, "sh", "-c", "kill -KILL $(cat /proc/1/task/1/children)")


class Project:
    """``RUNS`` is the folder runs/ of ``folder``, writable for any user that the containers run as."""

    def __init__(self, clone, images, folder, **environment):
        self.name = "stoker-test-%s" % uuid.uuid4().hex[:8]
        self.clone = clone
        self.runs = os.path.join(folder, "runs")
        os.makedirs(self.runs, exist_ok=True)
        os.chmod(self.runs, 0o777)
        self.environment = dict(os.environ, COMPOSE_PROJECT_NAME=self.name, TRAINER_IMAGE=images[0],
                                WORKER_IMAGE=images[1], RUNS=self.runs, STATUS_PORT="0", **environment)

    def compose(self, *arguments, check=True, **environment):
        """Standard output and error of compose."""
        done = subprocess.run(compose_command() + list(arguments), cwd=self.clone, stdout=subprocess.PIPE,
                              env=dict(self.environment, **environment), stderr=subprocess.STDOUT,
                              universal_newlines=True, timeout=LIMIT_S)
        print(done.stdout)
        assert not check or done.returncode == 0, "%s: exit code %d" % (" ".join(arguments), done.returncode)
        return done.stdout

    def up(self, *arguments, **environment):
        return self.compose("up", *arguments, **environment)

    def scale(self, workers):
        self.up("-d", "--no-recreate", "--scale", "worker=%d" % workers)

    def containers(self, service, running=True):
        """The ids of its containers."""
        everything = [] if running else ["--all"]
        return docker("ps", "--quiet", "--no-trunc", *everything,
                      "--filter", "label=com.docker.compose.project=%s" % self.name,
                      "--filter", "label=com.docker.compose.service=%s" % service).split()

    @property
    def trainer(self):
        return self.containers("trainer", running=False)[0]

    def log(self, service="trainer"):
        """What all its containers said, each line once."""
        return "\n".join(docker("logs", container) for container in self.containers(service, running=False))

    def wait_for_log(self, pattern, service="trainer"):
        """The first match of the pattern in what its containers say."""
        try:
            return wait_for(lambda: re.search(pattern, self.log(service)), "%r from %s" % (pattern, service))
        except AssertionError:
            print(self.log("trainer"), self.log("worker"), sep="\n----\n")
            raise

    def steps(self):
        """How many training steps the audit has by now."""
        try:
            with open(os.path.join(self.runs, "audit.jsonl")) as lines:
                return sum(line.endswith("\n") for line in lines)
        except FileNotFoundError:
            return 0

    def wait_for_steps(self, steps):
        """Until so many are done. Fails if the run is over by then: nothing could be shown with it any more."""
        try:
            wait_for(lambda: self.steps() >= steps or not self.containers("trainer"), "step %d" % steps)
            assert self.containers("trainer"), "the trainer has ended"
        except AssertionError:
            print(self.log("trainer"), self.log("worker"), sep="\n----\n")
            raise

    def wait_for_end(self):
        """Until the trainer has ended for good, which has to be with exit code 0."""
        try:
            wait_for(lambda: state(self.trainer)["Status"] == "exited", "the end of the training")
        finally:
            print(self.log("trainer"), self.log("worker"), sep="\n----\n")
        assert state(self.trainer)["ExitCode"] == 0

    def entries(self):
        """The lines of the audit so far."""
        with open(os.path.join(self.runs, "audit.jsonl")) as lines:
            return [json.loads(line) for line in lines if line.endswith("\n")]

    def audit(self):
        """What was trained on, in order: of each step all that does not depend on who made it."""
        return [(entry["step"], entry["epoch"], entry["indices"], entry["skipped"], entry["crc32"])
                for entry in self.entries()]

    def joined(self):
        """How often a worker process joined."""
        return len(re.findall(" joined ", self.log()))

    def pids(self):
        """The processes of its containers, as this machine numbers them."""
        return [int(line.split()[0]) for service in ("trainer", "worker") for container in self.containers(service)
                for line in docker("top", container, "-eo", "pid").splitlines()[1:]]

    def left(self):
        """What there is of it in the engine: containers, networks, volumes."""
        label = "label=com.docker.compose.project=%s" % self.name
        return [line for kind in (["ps", "--all"], ["network", "ls"], ["volume", "ls"])
                for line in docker(*(kind + ["--quiet", "--filter", label])).split()]

    def remove(self):
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "1", check=False)
        # what is written as another user is removed as that one
        docker("run", "--rm", "--user", "0", "--entrypoint", "sh", "--volume", "%s:/runs" % self.runs,
               self.environment["TRAINER_IMAGE"], "-c", "rm -rf /runs/*", check=False)

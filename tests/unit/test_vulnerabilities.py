"""No pin of the newest environment, and no library in it, is a version with a known vulnerability that pictures, peers
or folders could reach.

The lists are kept by hand: when a fault becomes known, raise the version here, and then the pin. The trainer's
environment (CPython 3.6) gets no fixes any more: docs/SECURITY.md says what that means.
"""

import re
import sys

import pytest

from tests.unit.test_setup import WORKER_PYTHONS, pins

NEWEST = [python for python in WORKER_PYTHONS if int(python.split(".")[1]) >= 11]
#: package -> the first version without the known faults.
PINS = {
    # the JPEG decoder's buffer: CVE-2026-112398, CVE-2026-112403; pixels of other pictures: CVE-2026-96639; TIFF tiles:
    # CVE-2026-112395; EXIF: CVE-2026-96643. Before: PSD CVE-2026-25990, CVE-2026-42311, FITS CVE-2026-40192
    "pillow": "13.0.0",
    # an Unpacker that is used again after an error: CVE-2026-57585
    "msgpack": "1.2.1",
    # its libzmq: CVE-2020-15166, CVE-2020-36400 (4.3.3)
    "pyzmq": "20.0.0",
    # CVE-2021-34141, CVE-2021-41495, CVE-2021-41496
    "numpy": "1.22.2",
    # CVE-2019-16224 to CVE-2019-16228: damaged files of the cache
    "lmdb": "1.0.0",
}
#: library, by PIL's name -> the same.
LIBRARIES = {
    "webp": "1.3.2",            # CVE-2023-4863
    "libtiff": "4.7.2",         # CVE-2025-9900, CVE-2025-8176, CVE-2025-8177, CVE-2026-4775
    "libjpeg_turbo": "3.0.0",   # CVE-2023-2804, CVE-2021-46822, CVE-2020-17541
}


def numbers(version):
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


@pytest.mark.parametrize("python", NEWEST)
def test_the_pins_of_the_newest_environment_have_no_known_vulnerability(python):
    found = pins("workers", python)
    assert set(PINS) <= set(found)
    for name, least in PINS.items():
        assert numbers(found[name]) >= numbers(least), "%s %s has known faults: %s has not" % (name, found[name], least)


def test_the_libraries_in_it_have_none():
    if sys.version_info < (3, 11):
        pytest.skip("this is not the newest environment")
    import zmq
    from PIL import features
    for name, least in LIBRARIES.items():
        version = features.version(name)
        assert numbers(version) >= numbers(least), "%s %s has known faults: %s has not" % (name, version, least)
    assert numbers(zmq.zmq_version()) >= (4, 3, 3)


def test_versions_are_compared_as_numbers():
    assert numbers("1.10.0") > numbers("1.9.9") and numbers("4.3.0") < numbers("4.7.2") and numbers("3.0") == (3, 0)

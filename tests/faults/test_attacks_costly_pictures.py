"""Pictures that take hours or gigabytes to decode: each is found, named and left out, and the run goes on."""

from tests.faults.test_attacks_formats import PYTHONS, folder_of, peak_mb
from tests.support import hostile_pictures as hostile
from tests.support.processes import opened, worker_pids

OPTIONS = {"image_size": 32, "batch_size": 8, "labels": False, "seed": 3}
TOO_SLOW = "takes more than 0.3 s of CPU time to decode; picture_cpu_s (--picture-cpu-s) permits more"
TOO_LARGE = "takes more than 120 MB of memory to decode; picture_memory_mb (--picture-memory-mb) permits more"


def named(content):
    """``content`` as PROMISES of test_attacks_formats have it."""
    def write(path):
        with open(path, "wb") as file:
            file.write(content)
    return write, ""


def outcome(root, audit, python=None, **options):
    """(path -> why it is bad, what is in the audit, the run, the most memory of a worker in MB)."""
    with opened(root, audit, worker_python=python, **dict(OPTIONS, **options)) as run:
        run.take_all()
        peak = max(map(peak_mb, worker_pids()))
    return dict(run.stream.skipped), run.content(), run, peak


@PYTHONS
def test_a_picture_that_takes_minutes_is_named_and_left_out(tmp_path, python, attacks):
    """4 MB held each worker for more than batch_timeout_s, and so ended the run and every resume."""
    root = folder_of(tmp_path / "data", {"slow.jpg": named(hostile.slow_jpeg(20000))})
    contents = []
    for workers in (1, 2):
        bad, content, run, _ = outcome(root, tmp_path / ("audit-%d" % workers), python, workers=workers,
                                       picture_cpu_s=0.3, on_bad_image="replace")
        assert bad == {"slow.jpg": TOO_SLOW}
        contents.append(content)
        assert any("SIGPROF (a picture took more CPU time than --picture-cpu-s permits)" in line
                   for line in run.log.lines + run.printed().splitlines())
    assert contents[0] == contents[1] and len(contents[0]) == 4
    if python is None:          # one row is enough
        attacks("the data: a picture", "a JPEG of 0.5 MB with a scan that is repeated 20,000 times: a minute of "
                "CPU time", "the kernel ends a worker that decodes for longer than --picture-cpu-s; the picture is "
                "found as files that kill are, named and left out")


@PYTHONS
def test_a_picture_that_takes_much_memory_is_named_and_the_memory_goes_back(tmp_path, python, attacks):
    usual_mb = outcome(folder_of(tmp_path / "good", {}), tmp_path / "clean", python, workers=1)[3]
    root = folder_of(tmp_path / "data", {"large.png": named(hostile.png(7900, 8100, 6, 8))})
    bad, _, run, peak = outcome(root, tmp_path / "audit", python, workers=1, picture_memory_mb=120, epochs=3)
    assert bad == {"large.png": TOO_LARGE}
    assert run.reassigned == 0                          # no process died of it
    assert peak < usual_mb + 200
    if python is None:          # one row is enough
        attacks("the data: a picture", "a PNG that takes 256 MB to decode, where 120 are permitted",
                "it is bad by --picture-memory-mb, and no process dies; by default 1.5 GB are permitted")


@PYTHONS
def test_a_worker_is_small_again_after_a_large_picture(tmp_path, python):
    root = folder_of(tmp_path / "data", {"00-large.png": named(hostile.png(7900, 8100, 6, 8)),
                                         "01-deep.png": named(hostile.png(6000, 6000, 0, 16))})
    with opened(root, tmp_path / "audit", workers=1, training=False, worker_python=python,
                **dict(OPTIONS, batch_size=1)) as run:
        run.take(10)
        pid, = worker_pids()
        now, most = resident_mb(pid), peak_mb(pid)
        run.take_all()
    assert not run.stream.skipped and most > 250
    assert now < most - 150


def resident_mb(pid):
    with open("/proc/%d/statm" % pid) as file:
        return int(file.read().split()[1]) * 4096 / 2 ** 20

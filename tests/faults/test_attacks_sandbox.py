"""A picture takes over the process that decodes it: what the sandbox lets it do, and that it costs nothing else."""

import json
import os
import re
import shutil
import socket

import pytest

from stoker.pipeline.transport import keys
from stoker.workers import landlock
from tests.support.processes import ROOT, free_port, opened, python_with_path, wait_for, workers_program

TAKEN_OVER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "taken_over")
#: A picture at which libraries crash.
KILLER = """
import os, sys
if any(name in open("/proc/self/cmdline").read() for name in ("workers.process", "workers.quarantine")):
    sys.path.append(%r)
    from stoker.workers import images
    real = images.read

    def read(path):
        if bytes(path).endswith(b"left/006.jpg"):
            os.kill(os.getpid(), 11)
        return real(path)
    images.read = read
    sys.path.pop()
""" % ROOT
OPTIONS = dict(image_size=8, batch_size=8, epochs=2)


def version():
    try:
        return landlock.version()
    except landlock.Unavailable:
        return 0


needs_landlock = pytest.mark.skipif(version() < 6, reason="this kernel has no Landlock, or an old one")


@pytest.fixture
def secrets(tmp_path, pictures):
    """What an attacker wants, and what each attempt is called."""
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "id").write_text("secret")
    data = tmp_path / "data"
    shutil.copytree(pictures, str(data))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(5)
        yield data, {
            "the user's ssh key": ("read", str(home / ".ssh" / "id")),
            "the same, in another thread": ("other thread", str(home / ".ssh" / "id")),
            "/etc/shadow": ("read", "/etc/shadow"),
            "the user's folder": ("list", str(home)),
            "a file at home": ("write", str(home / "new")),
            "a file among the data": ("write", str(data / "left" / "new.jpg")),
            "a picture of the data": ("remove", str(data / "left" / "000.jpg")),
            "a file in /tmp": ("write", "/tmp/stoker-test-%d" % os.getpid()),
            "Stoker's code": ("write", os.path.join(os.path.dirname(landlock.__file__), "new.py")),
            "a shell": ("run", "/bin/sh"),
            "another port": ("connect", other.getsockname()[1]),
            "a port of its own": ("listen", 0),
            "SIGKILL to the trainer": ("kill", os.getpid()),
            "the trainer's environment": ("trace", os.getpid()),
        }


def results(text):
    return dict(json.loads(line) for line in re.findall(r"^ATTACK (.*)$", text, re.MULTILINE))


def content_of(run):
    run.take_all()
    return run.content()


@needs_landlock
@pytest.mark.parametrize("python", ["trainer", "workers"])
def test_a_worker_that_a_picture_takes_over_can_do_nothing(secrets, tmp_path, monkeypatch, worker_python, attacks,
                                                           python):
    data, attempts = secrets
    monkeypatch.setenv("ATTACKS", json.dumps(attempts))
    script = python_with_path(tmp_path, TAKEN_OVER, None if python == "trainer" else worker_python)
    with opened(str(data), tmp_path / "audit", workers=1, worker_python=script, **OPTIONS) as run:
        attacked = content_of(run)
        found = results(run.printed())
        line, = run.log.having("has a sandbox: ")
        assert "reads %s, Python; writes nothing; starts no program but Python" % data in line
    assert {name: found.get(name) for name in attempts if not str(found.get(name)).startswith("refused: ")} == {}
    monkeypatch.delenv("ATTACKS")
    with opened(str(data), tmp_path / "other-audit", workers=1, sandbox="off",
                worker_python=None if python == "trainer" else worker_python, **OPTIONS) as run:
        assert content_of(run) == attacked
        assert run.log.having("sandbox") == []
    if python == "trainer":
        attacks("a picture that takes over its worker", "reads an ssh key, `/etc/shadow`, the trainer's environment; "
                "writes into data, home and `/tmp`; runs a shell; connects to another port, listens, sends signals",
                "each is refused (Landlock), in all threads; the run goes on with the same bytes")


@needs_landlock
def test_without_the_sandbox_it_can(secrets, tmp_path, monkeypatch):
    """So the attempts above are worth something."""
    data, attempts = secrets
    del attempts["SIGKILL to the trainer"], attempts["Stoker's code"], attempts["a file in /tmp"]
    monkeypatch.setenv("ATTACKS", json.dumps(attempts))
    script = python_with_path(tmp_path, TAKEN_OVER)
    with opened(str(data), tmp_path / "audit", workers=1, worker_python=script, sandbox="off", on_bad_image="skip",
                **OPTIONS) as run:
        run.take(2)
        found = results(run.printed())
    assert {name for name, result in found.items() if result == "done"} == set(attempts), found


@needs_landlock
@pytest.mark.parametrize("options", [["--data", "{data}"], []], ids=["data known", "only by the job"])
def test_a_worker_that_is_started_by_hand(secrets, tmp_path, monkeypatch, worker_python, options):
    data, attempts = secrets
    if not options:         # then other threads can read
        del attempts["the same, in another thread"]
    monkeypatch.setenv("ATTACKS", json.dumps(attempts))
    script = python_with_path(tmp_path, TAKEN_OVER, worker_python)
    with opened(str(data), tmp_path / "audit", workers=0, **OPTIONS) as run, workers_program(
            run.stream.address, "--processes", "1", *(option.format(data=data) for option in options),
            python=script) as workers:
        run.take_all()
        workers.wait_for_line("a sandbox: reads ")
        found = results(workers.text)
    assert {name: found.get(name) for name in attempts if not str(found.get(name)).startswith("refused: ")} == {}


# --------------------------------------------------------------------------------- good files stay good, and all works

@needs_landlock
def test_another_folder_in_the_place_of_the_data_makes_no_good_file_bad(pictures, tmp_path):
    """As after a new mount: the sandbox knows the folder that was there before. Processes with new rules follow."""
    data = tmp_path / "data"
    shutil.copytree(pictures, str(data))
    with opened(str(data), tmp_path / "reference", workers=1, sandbox="off", **OPTIONS) as run:
        wanted = content_of(run)
    with opened(str(data), tmp_path / "audit", workers=2, prefetch=4, **OPTIONS) as run:
        run.take(2)
        shutil.copytree(str(data), str(tmp_path / "new"))
        data.rename(tmp_path / "old")
        (tmp_path / "new").rename(data)
        shutil.rmtree(str(tmp_path / "old"))
        assert content_of(run) == wanted
        assert run.log.having("bad file") == [] and run.stream.report().count("no bad files") == 1


@needs_landlock
def test_a_worker_serves_one_trainer_after_the_other_each_with_its_folder(pictures, tmp_path, worker_python):
    address, contents, other = "tcp://127.0.0.1:%d" % free_port(), {}, str(tmp_path / "other")
    shutil.copytree(pictures, other)
    with workers_program(address, "--processes", "1", python=worker_python) as workers:
        for number, data in enumerate([pictures, other, other, pictures]):
            with opened(data, tmp_path / ("audit%d" % number), workers=0, bind=address, **OPTIONS) as run:
                assert contents.setdefault(data, content_of(run)) == run.content()
                assert run.log.having("bad file") == [] and run.stream.report().count("no bad files") == 1
        assert workers.text.count("its sandbox is for the data in") == 2, workers.text
        assert "Traceback" not in workers.text


@needs_landlock
def test_links_have_the_reasons_that_they_have_without_a_sandbox(pictures, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(pictures, str(data))
    (tmp_path / "elsewhere").mkdir()
    shutil.move(str(data / "left" / "002.jpg"), str(tmp_path / "elsewhere"))
    (data / "left" / "000.jpg").unlink()
    (data / "left" / "000.jpg").symlink_to("/etc/passwd")
    (data / "left" / "002.jpg").symlink_to(tmp_path / "elsewhere" / "002.jpg")
    (data / "left" / "004.jpg").unlink()
    (data / "left" / "004.jpg").symlink_to("../right/001.jpg")
    reasons, contents = [], []
    for name, options in (("off", {"sandbox": "off"}), ("auto", {})):
        with opened(str(data), tmp_path / name, workers=1, follow_links=False, **dict(OPTIONS, **options)) as run:
            contents.append(content_of(run))
            reasons.append(dict(run.stream.skipped))
    assert reasons[0] == reasons[1] and contents[0] == contents[1]
    with opened(str(data), tmp_path / "follow", workers=1, follow_links=True, **OPTIONS) as run:
        run.take_all()
        assert list(run.stream.skipped) == ["left/000.jpg"]            # /etc/passwd is no picture
        assert run.log.having("reads everything (links may lead out of the data: --follow-links)")


@needs_landlock
def test_cache_health_file_and_keys(pictures, tmp_path):
    pytest.importorskip("lmdb")
    keys.make(str(tmp_path / "keys"), ["alpha"])
    cache, alive, address = tmp_path / "cache", tmp_path / "alive", "tcp://127.0.0.1:%d" % free_port()
    worker = ["--keys", str(tmp_path / "keys" / "workers" / "alpha"), "--cache", str(cache), "--health-file",
              str(alive)]
    with workers_program(address, "--processes", "2", *worker) as workers:
        for number in range(2):
            with opened(pictures, tmp_path / ("audit%d" % number), workers=0, bind=address,
                        keys=str(tmp_path / "keys"), **OPTIONS) as run:
                run.take_all()
        wait_for(alive.exists, "a sign of life")
        assert not re.search("cannot write|Permission denied|Traceback", workers.text), workers.text
    assert any(name.endswith(".lmdb") for name in os.listdir(str(cache)))


@needs_landlock
def test_a_file_that_kills_is_found_in_the_sandbox(pictures, tmp_path, monkeypatch):
    """So the quarantine can start Python there."""
    (tmp_path / "sitecustomize.py").write_text(KILLER)
    with opened(pictures, tmp_path / "audit", workers=2, worker_python=python_with_path(tmp_path, tmp_path),
                **OPTIONS) as run:
        run.take_all()
        assert {path: reason.split(":")[0] for path, reason in dict(run.stream.skipped).items()} == {
            "left/006.jpg": "kills the process that opens it"}
        assert run.log.having("has a sandbox")

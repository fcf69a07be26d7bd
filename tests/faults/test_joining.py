"""Workers whose configuration is wrong: they are named and set aside, and no run ends because of them."""

import os
import re
import sys
import time

import pytest

from stoker.pipeline.errors import RunFailed
from stoker.pipeline.transport import keys
from tests.faults.test_table import OPTIONS
from tests.support.processes import (ROOT, Program, free_port, opened, python_with_path, wait_for, worker_pids,
                                     workers_program)

ALLOW = ("--allow-generator", "user_generators:slow")
#: What is wrong with a worker: its options, what it prints, and what the trainer logs.
WRONG = {
    "another folder": (["--data", "{empty}"], "is not the dataset's folder: of 8 files that it should have"),
    "no folder": ([], "the dataset's folder .* is not there on"),
    "not allowed": ([], "this worker does not allow it .*; start the worker with --allow-generator user_gen"),
    "no module": (["--allow-generator", "user_generators:slow"], "importing user_generators on this worker failed: "
                                                                 "ModuleNotFoundError"),
    "no package": (["--allow-generator", "user_generators:slow"], "ModuleNotFoundError: No module named 'psutil_': "
                                                                  "install it for"),
}


#: What follows is for worker processes: the trainer imports the user's module, too.
IN_WORKER = """import sys
with open("/proc/self/cmdline") as command:
    is_worker = "stoker.workers.process" in command.read()
if is_worker:
"""


@pytest.fixture
def empty(tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def reference(pictures, tmp_path_factory):
    """The content of an undisturbed run."""
    with opened(pictures, tmp_path_factory.mktemp("reference") / "audit", workers=1, **OPTIONS) as run:
        run.take_all()
    return run.content()


def test_a_worker_with_another_folder_that_waits_for_the_trainer(pictures, tmp_path, empty, reference, table):
    """By the commands of a new user: the worker waits already, and the trainer's own workers join a moment later."""
    began, audit = time.monotonic(), tmp_path / "audit"
    keys.make(str(tmp_path / "keys"), ["alpha"])
    port = free_port()
    worker = ["--keys", str(tmp_path / "keys" / "workers" / "alpha"), "--data", str(empty), "--processes", "2",
              "--once"]
    with workers_program("tcp://127.0.0.1:%d" % port, *worker) as wrong:
        wrong.wait_for_line("2 processes")
        wait_for(lambda: len(worker_pids(wrong.pid)) == 2, "the workers")
        with opened(pictures, audit, workers=2, bind="tcp://0.0.0.0:%d" % port, keys=str(tmp_path / "keys"),
                    **OPTIONS) as run:
            wrong.wait_for_line("cannot do this job: .*empty.* is not the dataset's folder", 2)
            run.take_all()
        assert wrong.wait() == 0                 # it heard of the end of the run
    assert "failed at" not in wrong.text
    assert run.content() == reference and run.reassigned == 0
    line, = run.log.having("set aside")
    assert re.match(r"\S+/[01] is set aside, because it cannot do this job: .*/empty on \S+ is not the dataset's fol",
                    line)
    assert 1 <= len(run.log.having(" joined (")) <= 2 and not run.log.having("failed")
    table("joining", "another folder, in workers that wait already", "worker 0 is set aside, because it cannot do this "
          "job: ... is not the dataset's folder ...", "no step is reassigned", time.monotonic() - began)


@pytest.mark.parametrize("what", sorted(WRONG))
def test_only_workers_that_cannot_do_the_job(pictures, tmp_path, empty, own_generators, what):
    options, sentence = WRONG[what]
    generator = "user_generators:slow"
    data, where = pictures, tmp_path if what == "no module" else None
    if "folder" in what:
        generator = "image"
    if what == "no folder":
        data = str(tmp_path / "moved")
        os.symlink(pictures, data)
    if what == "no package":
        where = tmp_path / "other"
        where.mkdir()
        (where / "user_generators.py").write_text("import psutil_\n")
    with opened(data, tmp_path / "audit", workers=0, generator=generator, **OPTIONS) as run:
        if what == "no folder":
            os.unlink(data)
        command = ["-m", "workers", "--connect", run.stream.address, "--processes", "1"]
        with Program(command + [option.format(empty=empty) for option in options], cwd=str(where or ROOT),
                     PYTHONPATH=os.pathsep.join([ROOT] + [str(where)] * bool(where))) as wrong:
            wrong.wait_for_line("cannot do this job")
            object.__setattr__(run.stream._options, "worker_timeout_s", 0.5)     # how long that takes is no matter here
            with pytest.raises(RunFailed) as caught:
                run.take_all()
            assert wrong.running() and "Traceback" not in wrong.text
    text = str(caught.value)
    assert re.search(r"no worker is connected that can do this job; set aside: \S+/0 \(.*%s" % sentence, text), text
    assert "start workers with: python -m workers" in text and not run.entries()
    assert len(run.log.having("is set aside, because it cannot do this job")) == 1


@pytest.mark.parametrize("sandbox, says", [("off", "can do this job now"),
                                           ("auto", "is another folder than when its sandbox was made")])
def test_a_worker_s_folder_that_is_mounted_later(pictures, tmp_path, reference, sandbox, says):
    data = tmp_path / "mounted"
    with opened(pictures, tmp_path / "audit", workers=0, **OPTIONS) as run:
        data.mkdir()
        with workers_program(run.stream.address, "--processes", "1", "--data", str(data), "--sandbox", sandbox):
            run.log.wait_for("is set aside")
            data.rmdir()
            data.symlink_to(pictures)
            run.take_all()
    assert run.content() == reference and len(run.log.having(says)) == 1
    assert {entry["attempt"] for entry in run.entries()} == {1}


def test_a_module_that_is_mended_while_its_worker_waits(pictures, tmp_path, own_generators, reference):
    """It was imported, so that only another process can import it anew."""
    module = own_generators / "user_generators.py"
    text = module.read_text()
    module.write_text(text.replace("def slow(", "def slow_(", 1))
    with opened(pictures, tmp_path / "audit", workers=0, generator="user_generators:slow", **OPTIONS) as run:
        with workers_program(run.stream.address, "--processes", "1", *ALLOW) as workers:
            workers.wait_for_line("has no slow")
            module.write_text(text)
            run.take_all()
            workers.wait_for_line("user_generators.py has changed since it was imported: this process starts again")
    assert run.content() == reference


@pytest.mark.parametrize("module, sentence, place", [
    ("def other(leases, job): yield\n", r"the module broken_module \(/.*/broken_module.py\) on this worker has no f",
     ""),
    ("import json\njson.loads('{')\n", r"importing broken_module on this worker failed: JSONDecodeError: .* "
     r"\(broken_module.py, line 2\)", 'broken_module.py", line 2'),
    ("import no_such_package\n", "No module named 'no_such_package': install it for", ""),
], ids=["no function", "raises", "no package"])
def test_local_workers_that_cannot_import_the_function_end_the_run_at_once(pictures, tmp_path, own_generators, module,
                                                                           sentence, place, monkeypatch):
    monkeypatch.delitem(sys.modules, "broken_module", raising=False)      # another case's, in this process
    (own_generators / "broken_module.py").write_text(module)
    with opened(pictures, tmp_path / "audit", workers=2, generator="broken_module:f", **OPTIONS) as run:
        with pytest.raises(RunFailed) as caught:
            run.take_all()
        limit_s = run.stream._options.worker_timeout_s
        assert run.stream.waited_s < limit_s / 2
    text = str(caught.value)
    assert re.match("none of the local workers can do this job: .*" + sentence, text) and "\n" not in text, text
    shown = "\n".join(run.log.lines + [run.printed()])
    assert shown.count("Traceback (most recent call last)") == bool(place) and place in shown
    assert "left/" not in text + shown and not run.entries()


def test_local_workers_whose_process_ends_while_it_imports(pictures, tmp_path, own_generators):
    (own_generators / "deadly.py").write_text(IN_WORKER + "    import os; print('no licence', file=sys.stderr)\n"
                                              "    os._exit(3)\n")
    with opened(pictures, tmp_path / "audit", workers=1, generator="deadly:f", **OPTIONS) as run:
        with pytest.raises(RunFailed) as caught:
            run.take_all()
    text = str(caught.value)
    assert re.match(r"\d+ local workers in a row died before they could do this job \(does importing deadly:f end the "
                    r"process\?\); the last lines that they wrote:\n", text), text
    assert "    no licence\n" in text


#: Changes what a worker refuses to read.
REFUSING = IN_WORKER + """
    import stoker.pipeline.protocol.codec as codec
    def check(value):
        raise ValueError("must be of another kind")
    codec._FROM_TRAINER["{kind}"][1]["{field}"] = check
"""


@pytest.mark.parametrize("kind, field", [("welcome", "job"), ("lease", "samples")])
def test_what_a_local_worker_refuses_to_understand_ends_the_run(pictures, tmp_path, kind, field, table):
    began = time.monotonic()
    (tmp_path / "sitecustomize.py").write_text(REFUSING.format(kind=kind, field=field))
    with opened(pictures, tmp_path / "audit", workers=2, worker_python=python_with_path(tmp_path, tmp_path),
                **OPTIONS) as run:
        with pytest.raises(RunFailed) as caught:
            run.take_all()
    sentence = ("it cannot read a message of the trainer, though both are of the same release: %s.%s must be of "
                "another kind; this is a row or a path that cannot travel, or a bug in Stoker" % (kind, field))
    assert str(caught.value) == "none of the local workers can do this job: " + sentence
    assert len(run.log.having("set aside, because it cannot do this job: " + sentence)) == 1
    table("joining", "local workers cannot read %s" % kind.capitalize(), "none of the local workers can do this job: "
          "it cannot read a message of the trainer ...", "no step", time.monotonic() - began)


def test_workers_that_import_for_longer_than_a_lease_are_waited_for(pictures, tmp_path, own_generators, reference):
    """They say Alive meanwhile."""
    (own_generators / "large.py").write_text(IN_WORKER + "    import time; time.sleep(7)\n"
                                             "from user_generators import slow\n")
    with opened(pictures, tmp_path / "audit", workers=2, generator="large:slow", lease_s=3.0, **OPTIONS) as run:
        run.take_all()
    assert run.content() == reference and run.reassigned == 0
    assert not run.log.having("was silent") and not run.log.having("set aside")

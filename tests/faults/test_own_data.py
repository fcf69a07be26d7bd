"""Own data under faults: a row whose sample kills its process, and a module that changes between two runs."""

import pytest

import stoker
from tests.integration.conftest import draw
from tests.support.own_functions import DEADLY, SIZE, write_table
from tests.support.processes import Log, free_port, opened, workers_program

OPTIONS = {"batch_size": 6, "seed": 3, "partners": 1, "order": stoker.weighted("importance")}


@pytest.mark.parametrize("on_bad_image", ["skip", "replace"])
def test_a_row_that_kills_its_process_is_left_out_like_one_that_is_skipped(on_bad_image, tmp_path, worker_python):
    """Though other rows of its batch are skipped as well, make two rows, or come again in the epoch."""
    draw(str(tmp_path / "data"), "png", 60, SIZE)
    data, runs = write_table(str(tmp_path / "data")), []
    for function, workers in (("spared", 1), ("deadly", 2)):
        with opened(data, tmp_path / function, generator="tests.support.own_functions:" + function, workers=workers,
                    worker_python=worker_python, on_bad_image=on_bad_image, **OPTIONS) as run:
            run.take_all()
            runs.append(run)
    spared, deadly = runs
    assert deadly.content() == spared.content() and len(deadly.batches) == 10
    assert [batch.used_indices for batch in deadly.batches] == [batch.used_indices for batch in spared.batches]
    assert any(len(batch.used_indices) > len(set(batch.used_indices)) for batch in deadly.batches)
    killed = [item.reason for batch in deadly.batches for item in batch.skipped if not item.chosen]
    assert killed and all(reason.startswith("kills the process that opens it: SIGSEGV") for reason in killed)
    assert all(row["file"] != DEADLY for batch in deadly.batches for row in batch.rows)
    reasons = {item.reason for batch in spared.batches for item in batch.skipped}
    assert reasons == {"it kills", "drawn to be skipped"}


def test_a_function_that_kills_its_process_whatever_the_sample_ends_the_run(tmp_path, monkeypatch, worker_python):
    (tmp_path / "kills_always.py").write_text("import os\nimport stoker\n@stoker.sample({'x': 'int32'})\n"
                                              "def function(sample, random):\n    os._exit(3)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with Log() as log, pytest.raises(stoker.RunFailed) as caught:
        with stoker.open_stream(800, "kills_always:function", batch_size=10, workers=2,
                                worker_python=worker_python) as stream:
            next(stream)
    assert str(caught.value) == ("the function kills_always:function ends its process with exit code 3, whatever the "
                                 "sample: so it was at each of the first 8")
    assert len(log.having("its samples are now tried one by one")) == 1


def test_workers_that_outlive_a_run_import_a_changed_module_again(tmp_path):
    address, module = "tcp://127.0.0.1:%d" % free_port(), tmp_path / "changing.py"
    with workers_program(address, "--processes", "2", "--allow-generator", "changing:function",
                         PYTHONPATH=str(tmp_path)) as workers, Log() as log:
        for value in (1, 22, None, 333):                  # None: the same module in another run
            if value is not None:
                module.write_text("import stoker\n@stoker.sample({'x': 'int32'})\ndef function(sample, random):\n"
                                  "    return %d\n" % value)
                expected = value
            with stoker.open_stream(40, "changing:function", arrays={"x": "int32"}, batch_size=2, bind=address,
                                    workers=0) as stream:
                assert {made for batch in stream for made in batch["x"].tolist()} == {expected}
        assert not log.having("lost the connection")      # they leave in an orderly way
        # a process that was not welcomed to a run in time may have nothing to notice
        assert 1 <= workers.text.count("changing.py has changed since it was imported: this process starts again") <= 4

"""What errors advise those who make batches of a recorded run again."""

import pytest

from stoker.pipeline.errors import ConfigError, RunFailed, StokerError
from stoker.pipeline.functions import load_function
from stoker.pipeline.plan import Plan
from stoker.pipeline.storage.folder import check_access
from stoker.trainer.record.advice import in_own_words
from stoker.trainer.record.selected_plan import SelectedPlan
from stoker.workers.readers import Readers
from tests.support.caching import job


def advised(fail, below="/old/data"):
    """What an error of workers says in a replay."""
    with pytest.raises(StokerError) as error:
        fail()
    with pytest.raises(RunFailed) as caught, in_own_words(below):
        raise RunFailed("step 3 failed: %s (boxes.py, line 4)" % error.value)
    return str(caught.value)


def test_a_module_that_is_gone():
    text = advised(lambda: load_function("gone.boxes:made", " on this worker"))
    assert text.endswith("No module named 'gone': name the folder that has gone now (path=, --path DIR) "
                         "(boxes.py, line 4)")


def test_data_that_is_gone():
    """A run whose rows are recorded goes on without a folder."""
    def fail():
        Readers(job("")).bytes("cat.png")
    assert "'cat.png' cannot be read, for the data is no longer in /old/data: name the folder that has the files now " \
           "(root=, --root DIR)" in advised(fail)
    assert "the run has no data folder: open the stream with root=" in advised(fail, "")
    text = advised(lambda: check_access("/no/such/folder"))
    assert "folder /no/such/folder is not there" in text and "mount" not in text and "--root DIR)" in text


def test_other_errors_stay_as_they_are():
    error = ConfigError("batch_size must be a number")
    with pytest.raises(ConfigError) as caught, in_own_words("/old/data"):
        raise error
    assert caught.value is error and str(error) == "batch_size must be a number"


def test_epochs_count_from_0():
    plan = Plan(10, 4, 3, 0)
    selected = SelectedPlan(plan, [plan.position_at(4)])
    planned = selected.at(SelectedPlan.FIRST)
    assert plan.name_of(planned) == "step 4 of epoch 2"
    assert selected.name_of(planned) == "step 4 of epoch 1 (the first is 0)"

"""The short version of the record files' part of ``make fuzz``: mutated files have an index or an error."""

import pytest

from tests.support.processes import Program, interpreter


@pytest.mark.parametrize("python", ["STOKER_TEST_PYTHON36", "STOKER_TEST_WORKER_PYTHON"])
def test_mutated_record_files_have_an_index_or_an_error(python):
    if interpreter(python) is None:
        pytest.skip("%s is not set" % python)
    with Program(["-m", "tests.fuzz.fuzz_records", "--runs", "1500", "--seed", "3"], interpreter(python)) as program:
        assert program.wait(120) == 0, program.text
    assert "records: 1500 files" in program.text

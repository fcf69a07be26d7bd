"""What a run is, from the arguments of ``open_stream``."""

import numpy as np
import pytest

from stoker.pipeline.errors import ConfigError
from stoker.trainer.run import prepare


@pytest.mark.parametrize("share", [0.25, np.float32(0.25), np.float64(0.25)])
def test_a_share_for_validation_by_its_older_name(share):
    run = prepare(100, "numerical", validation_split=share)
    assert (len(run.datasets.training), len(run.datasets.validation)) == (75, 25)
    assert run.fingerprint() == prepare(100, "numerical", validation=share).fingerprint()
    assert type(run.fingerprint()["validation_split"]) is float


@pytest.mark.parametrize("share, sentence", [
    (1, "must be at least 0 and below 1"), (1.0, "must be at least 0 and below 1"),
    (True, "must be a share"), ("0.2", "must be a share"), (None, "must be a share")])
def test_what_is_no_share(share, sentence):
    with pytest.raises(ConfigError, match=sentence):
        prepare(100, "numerical", validation_split=share)


def test_no_validation_is_the_same_run_however_it_is_said():
    same = prepare(100, "numerical").fingerprint()
    for none in (None, 0, 0.0):
        assert prepare(100, "numerical", validation=none).fingerprint() == same
    assert prepare(100, "numerical", validation=5).fingerprint() != same

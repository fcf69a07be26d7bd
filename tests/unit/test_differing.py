"""Two recorded runs are compared by their audits."""

import json

import pytest

from stoker.inspection.showing import difference, differing
from stoker.pipeline.errors import ConfigError


class Audited:
    """A replay of which the audit is known, and nothing else."""

    def __init__(self, path, **whole):
        self.audit, self._whole = str(path), whole

    def audited(self, step):
        return self._whole or None


def audit_of(path, lines):
    path.write_text("".join(json.dumps(dict({"step": step, "crc32": crc}, **more)) + "\n" for step, crc, more in lines))
    return path


def test_audits_are_compared_up_to_the_step_to_which_the_samples_are_alike(tmp_path):
    one = Audited(audit_of(tmp_path / "one", [(step, step, {}) for step in range(6)]))
    two = Audited(audit_of(tmp_path / "two", [(step, 9 if step == 4 else step, {}) for step in range(6)]))
    assert differing._other_bytes(one, two, 6, 0, None) == (difference.OtherBytes(4, 5), differing.BY_AUDITS)
    assert differing._other_bytes(one, two, 4, 0, None) == (difference.OtherBytes(None, 4), differing.BY_AUDITS)


def test_the_parts_of_several_ranks_are_compared_as_one(tmp_path):
    one = Audited(audit_of(tmp_path / "one", [(0, 5, {})]))
    parts = audit_of(tmp_path / "parts", [(0, 3, {"rank": 0, "ranks": 2})])
    for crc, found in ((5, None), (6, 0)):
        whole = Audited(parts, step=0, crc32=crc)
        assert differing._other_bytes(one, whole, 1, 0, None)[0] == difference.OtherBytes(found, 1)


@pytest.mark.parametrize("content, sentence", [
    (None, "cannot be read: No such file"), (b"{}\n", "two is no audit, or damaged: ")])
def test_an_audit_that_cannot_be_compared_is_one_sentence(tmp_path, content, sentence):
    one = Audited(audit_of(tmp_path / "one", [(0, 0, {})]))
    if content is not None:
        (tmp_path / "two").write_bytes(content)
    with pytest.raises(ConfigError, match=sentence):
        differing._other_bytes(one, Audited(tmp_path / "two"), 1, 0, None)

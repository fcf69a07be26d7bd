"""stoker-ray: what of a working directory Ray must not copy to the nodes."""

import os

from stoker.workers.ray_launcher import _patterns


def test_secrets_in_the_working_directory_are_left_out_also_those_that_links_lead_to(tmp_path, monkeypatch):
    (tmp_path / "work" / "keys [1]").mkdir(parents=True)
    (tmp_path / "token").write_text("0123456789abcdef")
    os.symlink(str(tmp_path / "token"), str(tmp_path / "work" / "my-token"))
    os.symlink(str(tmp_path / "work"), str(tmp_path / "link"))
    monkeypatch.chdir(tmp_path / "work")
    assert _patterns(".", ["keys [1]", "my-token", "../token"]) == [r"/keys\ \[1\]", "/my-token"]
    assert _patterns(str(tmp_path / "link"), ["keys [1]", str(tmp_path / "link" / "my-token")]) == [
        r"/keys\ \[1\]", "/my-token"]
    assert _patterns(str(tmp_path / "link"), ["my-token"]) == ["/my-token"]
    assert _patterns(".", ["..token"]) == ["/..token"]

"""The key files: what is made, what is loaded, and the errors."""

import os
import re
import shutil

import pytest
import zmq

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.transport import keys


@pytest.fixture
def folder(tmp_path):
    keys.make(str(tmp_path / "keys"), ["alpha", "beta"])
    return tmp_path / "keys"


def modes(folder):
    return {os.path.relpath(os.path.join(where, name), str(folder)): os.stat(os.path.join(where, name)).st_mode & 0o777
            for where, folders, files in os.walk(str(folder)) for name in folders + files}


def content(folder):
    return {path: (folder / path).read_bytes() for path in modes(folder) if (folder / path).is_file()}


def test_trainer_and_workers_know_each_other(folder):
    trainer = keys.load_trainer(str(folder))
    alpha, beta = [keys.load_worker(str(folder / "workers" / name)) for name in ("alpha", "beta")]
    assert alpha.trainer == beta.trainer == trainer.public
    assert trainer.workers == {alpha.public: "alpha", beta.public: "beta"}
    assert len({alpha.secret, beta.secret, trainer.secret}) == 3
    for pair in (trainer, alpha, beta):
        assert zmq.curve_public(pair.secret) == pair.public


def test_other_users_cannot_read_the_files_whatever_the_umask(tmp_path):
    mask = os.umask(0)
    try:
        keys.make(str(tmp_path / "keys"))
        assert os.umask(0) == 0
    finally:
        os.umask(mask)
    worker = "workers/worker"
    assert modes(tmp_path) == dict({"keys": 0o700, "keys/workers": 0o700, "keys/" + worker: 0o700}, **{
        "keys/" + name: 0o600 for name in ("trainer.key", "trainer.key_secret", worker + "/trainer.key", ".gitignore",
                                           worker + "/worker.key", worker + "/worker.key_secret",
                                           worker + "/.gitignore")})


@pytest.mark.parametrize("mode, refused", [(0o600, False), (0o400, False), (0o700, False), (0o640, True), (0o604, True),
                                           (0o620, True), (0o601, True), (0o666, True)])
@pytest.mark.parametrize("name", ["trainer.key_secret", "workers/alpha/worker.key_secret"])
def test_a_secret_that_others_can_read_is_refused(folder, name, mode, refused):
    os.chmod(str(folder / name), mode)

    def load():
        return keys.load_trainer(str(folder)), keys.load_worker(str(folder / "workers" / "alpha"))
    if not refused:
        load()
        return
    with pytest.raises(ConfigError) as error:
        load()
    path = str(folder / name)
    assert re.search(r"others? .*may read %r \(its mode is %03o\): run  chmod 600 %s " % (path, mode, re.escape(path)),
                     str(error.value)), error.value
    os.chmod(path, 0o600)
    load()


def test_public_keys_may_be_read_by_all(folder):
    for path in content(folder):
        if not path.endswith("_secret"):
            os.chmod(str(folder / path), 0o644)
    keys.load_trainer(str(folder)), keys.load_worker(str(folder / "workers" / "alpha"))


def test_git_adds_no_key(folder, tmp_path):
    """Nor that of a worker whose folder was copied to its host; a .gitignore of one's own stays."""
    for where in ("", "workers/alpha", "workers/beta"):
        assert (folder / where / ".gitignore").read_text().splitlines()[-1] == "*"
    (folder / ".gitignore").write_text("own")
    keys.make(str(folder), ["gamma"])
    assert (folder / ".gitignore").read_text() == "own"


def test_a_second_run_adds_keys_and_changes_none(folder):
    before = content(folder)
    assert keys.make(str(folder)) == []
    assert keys.make(str(folder), ["alpha", "gamma"]) == [str(folder / "workers" / "gamma")]
    after = content(folder)
    assert {path: after[path] for path in before} == before and len(after) == len(before) + 4
    assert sorted(keys.load_trainer(str(folder)).workers.values()) == ["alpha", "beta", "gamma"]


def test_the_folder_of_another_trainer_s_worker_is_an_error(folder, tmp_path):
    keys.make(str(tmp_path / "others"), ["alpha"])
    shutil.rmtree(str(folder / "workers" / "alpha"))
    shutil.copytree(str(tmp_path / "others" / "workers" / "alpha"), str(folder / "workers" / "alpha"))
    with pytest.raises(ConfigError, match="workers/alpha' belongs to another trainer than .*keys'.*remove it"):
        keys.make(str(folder), ["alpha"])
    keys.make(str(folder), ["beta", "gamma"])


def test_a_worker_whose_folder_is_removed_is_locked_out(folder):
    alpha = keys.load_worker(str(folder / "workers" / "alpha"))
    shutil.rmtree(str(folder / "workers" / "alpha"))
    assert alpha.public not in keys.load_trainer(str(folder)).workers


@pytest.mark.parametrize("load, place, sentence", [
    (keys.load_trainer, "workers/alpha", "is the folder of a worker: the trainer needs the one that contains"),
    (keys.load_trainer, "nowhere", "make the keys with: stoker-keys"),
    (keys.load_worker, ".", "workers/alpha, "),
    (keys.load_worker, "workers", "copy the folder workers/NAME that stoker-keys made"),
    (keys.load_worker, "nowhere", "there is no worker.key_secret in"),
])
def test_the_wrong_folder(folder, load, place, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        load(str(folder / place))


@pytest.mark.parametrize("text", ["", "nonsense", '    public-key = "short"\n', "\0\xff",
                                  '    public-key = "%s"\n' % ("~" * 40)])
@pytest.mark.parametrize("name", ["trainer.key_secret", "workers/alpha/worker.key", "workers/alpha/trainer.key"])
def test_a_file_without_a_key(folder, name, text):
    (folder / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=re.escape(os.path.basename(name))):
        keys.load_worker(str(folder / "workers" / "alpha"))
        keys.load_trainer(str(folder))


def test_a_file_that_is_missing(folder):
    (folder / "workers" / "alpha" / "trainer.key").unlink()
    with pytest.raises(ConfigError, match="trainer.key.*Copy it again"):
        keys.load_worker(str(folder / "workers" / "alpha"))


@pytest.mark.parametrize("name", ["", ".", "../alpha", "a/b", "-x", "a b", "a" * 65])
def test_names_that_a_worker_cannot_have(tmp_path, name):
    with pytest.raises(ConfigError, match="a worker's name"):
        keys.make(str(tmp_path / "keys"), [name])
    assert not (tmp_path / "keys").exists()


def test_keys_are_not_made_inside_the_folder_of_a_worker(folder):
    with pytest.raises(ConfigError, match="is the folder of a worker"):
        keys.make(str(folder / "workers" / "alpha"))


def test_a_libzmq_without_curve(folder, monkeypatch):
    monkeypatch.setattr(zmq, "has", lambda name: False)
    for use in (keys.make, keys.load_trainer, keys.load_worker):
        with pytest.raises(ConfigError, match="without CURVE"):
            use(str(folder))


def test_the_trainer_s_own_workers(folder):
    trainer = keys.load_trainer(str(folder))
    before = content(folder)
    local = keys.make_local(trainer)
    assert trainer.workers[local.public] == "local" and content(folder) == before
    assert keys.from_environment(keys.to_environment(local)) == local
    assert keys.from_environment({}) is None
    with pytest.raises(ConfigError, match="STOKER_LOCAL_KEYS"):
        keys.from_environment({"STOKER_LOCAL_KEYS": "x"})


def test_secrets_are_not_printed(folder):
    trainer, alpha = keys.load_trainer(str(folder)), keys.load_worker(str(folder / "workers" / "alpha"))
    assert alpha.secret.decode() not in repr(alpha) and trainer.secret.decode() not in repr(trainer)


def test_the_command_line(tmp_path, capsys):
    folder = str(tmp_path / "keys")
    assert keys.main([folder, "alpha"]) == 0
    printed = capsys.readouterr().out
    assert "made %s" % os.path.join(folder, "workers", "alpha") in printed
    assert "--keys %s\n" % folder in printed and "--keys %s/workers/alpha\n" % folder in printed
    assert keys.main([folder]) == 0
    assert "nothing to make" in capsys.readouterr().out
    assert keys.main([os.path.join(folder, "workers", "alpha")]) == 2
    assert "stoker-keys: error:" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------- folders that others write

def load_both(folder):
    return keys.load_trainer(str(folder)), keys.load_worker(str(folder / "workers" / "alpha"))


@pytest.mark.parametrize("mode, refused", [(0o700, False), (0o755, False), (0o500, False), (0o777, True), (0o770, True),
                                           (0o720, True), (0o702, True), (0o2775, True), (0o1777, False)])
@pytest.mark.parametrize("name", [".", "workers", "workers/alpha"])
def test_a_folder_to_which_others_can_add_keys_is_refused(folder, name, mode, refused):
    path = os.path.normpath(str(folder / name))
    os.chmod(path, mode)
    if not refused:
        load_both(folder)
        return
    for load in [lambda: keys.load_trainer(str(folder)), lambda: keys.make(str(folder), ["gamma"])] + [
            lambda: keys.load_worker(path)] * (name == "workers/alpha"):
        with pytest.raises(ConfigError) as error:
            load()
        assert "other users of this host may add keys to the folder %r (its mode is %03o)" % (path, mode) in str(
            error.value) and str(error.value).endswith("run  chmod go-w %s" % path)
        assert os.stat(path).st_mode & 0o7777 == mode and not (folder / "workers" / "gamma").exists()
    os.chmod(path, mode & ~0o022)        # what the sentence says
    load_both(folder)


@pytest.mark.parametrize("name", ["trainer.key", "workers/alpha/worker.key", "workers/alpha/trainer.key"])
def test_a_public_key_that_others_can_replace_is_refused(folder, name):
    path = str(folder / name)
    os.chmod(path, 0o664)
    with pytest.raises(ConfigError) as error:
        keys.load_worker(str(folder / "workers" / "alpha"))
        keys.load_trainer(str(folder))
        keys.make(str(folder), ["alpha"])
    assert "may write %r (its mode is 664)" % path in str(error.value) and "chmod go-w %s" % path in str(error.value)


def test_in_a_folder_with_the_sticky_bit_only_keys_of_the_owner_count(folder, monkeypatch):
    """As in the volumes of Docker, which anyone may write: users cannot replace there what is not theirs."""
    for name in ("", "workers", "workers/alpha"):
        os.chmod(str(folder / name), 0o1777)
    keys.make(str(folder), ["gamma"])
    load_both(folder)
    owner, lstat = os.stat(str(folder)).st_uid, os.lstat
    for foreign, load in (("workers", lambda: keys.load_trainer(str(folder))),
                          ("workers/beta", lambda: keys.load_trainer(str(folder))),
                          ("workers/alpha/worker.key", lambda: keys.load_trainer(str(folder))),
                          ("workers/alpha/trainer.key", lambda: keys.load_worker(str(folder / "workers/alpha")))):
        path = str(folder / foreign)

        def changed(place, path=path):
            found = list(lstat(place))
            found[4] = owner + 1 if place == path else found[4]
            return os.stat_result(found)
        monkeypatch.setattr(os, "lstat", changed)
        with pytest.raises(ConfigError, match="%s' is of another user .%d.*remove it" % (foreign, owner + 1)):
            load()
        monkeypatch.setattr(os, "lstat", lstat)
    load_both(folder)

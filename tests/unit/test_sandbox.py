"""The rules of a worker's sandbox, and how a refusal is told from a permission that is missing. The kernel's part is in
tests/faults/test_attacks_sandbox.py."""

import os
import struct
import sys

import pytest

from stoker.pipeline.errors import ConfigError, UnfitWorker
from stoker.pipeline.options import WorkerOptions
from stoker.pipeline.storage import folder
from stoker.pipeline.storage.folder import BadFile, resolve
from stoker.workers import copies, landlock, sandbox, store_rights
from stoker.workers.sandbox import Sandbox

OPTIONS = WorkerOptions("tcp://127.0.0.1:5555")


@pytest.fixture
def kernel(monkeypatch, tmp_path):
    """Records what the kernel is asked for, and refuses with ``kernel.error``."""
    class Kernel(list):
        error = None
    calls = Kernel()

    def restrict(handled, rights, ports=(), scoped=False):
        if calls.error is not None:
            raise calls.error
        calls.append((handled, dict(rights), ports, scoped))
        return landlock.Restricted(7, bool(ports), {path: landlock.identity(path) for path in rights})
    monkeypatch.setattr(landlock, "restrict", restrict)
    monkeypatch.setattr(landlock, "drop_privileges", lambda: True)
    monkeypatch.setattr(folder, "explain_refusal", None)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(copies, "_folder", None)
    monkeypatch.setattr(copies.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    for name in list(os.environ):
        if name.startswith(("AWS_", "GOOGLE_", "AZURE_", "SSL_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/home/me")
    return calls


@pytest.fixture
def root(tmp_path):
    (tmp_path / "data" / "cat").mkdir(parents=True)
    (tmp_path / "data" / "cat" / "0.jpg").write_bytes(b"picture")
    return str(tmp_path / "data")


def entered(**options):
    made = Sandbox(WorkerOptions("tcp://127.0.0.1:5555", **options))
    made.enter()
    return made


@pytest.mark.parametrize("options, wanted", [
    ({}, True), ({"sandbox": "off"}, False), ({"allow_generators": ("m:f",)}, False),
    ({"allow_generators": ("m:f",), "sandbox": "on"}, True)])
def test_it_is_on_for_generators_of_stokers_own(kernel, options, wanted):
    made = entered(roots=(), **options)
    assert bool(kernel) == bool(made.summary) == wanted == (folder.explain_refusal is not None)


def test_what_a_worker_may_do(kernel, root, tmp_path):
    more = str(tmp_path / "more")
    os.mkdir(more)
    made = entered(roots=(root,), cache=str(tmp_path), health_file="/run/alive", allow_read=(more,))
    (handled, rights, ports, scoped), = kernel
    assert (handled, ports, scoped) == (landlock.ALL, [5555], True)
    assert rights[root] == rights[more] == rights["/usr"] == rights[sys.prefix] == landlock.READ
    assert rights[str(tmp_path)] == landlock.READ | landlock.WRITE
    assert not rights["/run/alive"] & (landlock.MAKE_REG | landlock.REMOVE_FILE)
    runs = [path for path, granted in rights.items() if granted & landlock.EXECUTE]
    assert os.path.realpath(sys.executable) in runs and len(runs) <= 2
    writes = {path for path, granted in rights.items() if granted & (landlock.WRITE | landlock.MAKE_SYM)}
    assert writes == {str(tmp_path), "/run/alive", "/dev/null"}
    assert not {"/", "/etc", "/root", "/home", "/tmp", "/dev", "/run", "/var"} & set(rights)
    assert made.summary == ("a sandbox: reads %s, Python, %s; writes %s, /run/alive; starts no program but Python; "
                            "connects by TCP to port 5555 alone (Landlock 7)" % (root, more, tmp_path))


def test_a_worker_with_data_at_a_url_may_connect_to_the_store_and_read_credentials(kernel, root, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/keys/google.json")
    made = entered(data="https://data.example:8443/photos")
    (handled, rights, ports, _), = kernel
    assert handled == landlock.ALL and ports == [80, 443, 5555, 8443]
    for path in ("/home/me/.aws", "/home/me/.config/gcloud", "/home/me/.azure", "/home/me/.netrc", "/keys/google.json",
                 "/etc/ssl"):
        assert rights[path] == landlock.READ
    assert not {"/home/me", "/keys", "https://data.example:8443/photos"} & set(rights)
    assert made.summary == ("a sandbox: reads https://data.example:8443/photos, Python, the credentials of its store's "
                            "client; writes nothing; starts no program but Python; connects by TCP to port 5555 "
                            "alone, and to ports 80, 443, 8443 for its store (Landlock 7)")
    made.enter_job("https://data.example:8443/photos")
    assert len(kernel) == 1 and made.outdated("https://data.example:8443/photos") == ""


def test_a_store_that_the_file_of_settings_names(kernel, tmp_path, monkeypatch):
    (tmp_path / "config").write_text("[default]\nendpoint_url = http://minio.example:9000\nca_bundle = /keys/ca.pem\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    entered(data="s3://bucket/photos")
    assert kernel[0][2] == [80, 443, 5555, 9000] and kernel[0][1]["/keys/ca.pem"] == landlock.READ
    (tmp_path / "config").write_text("nonsense")
    entered(data="s3://bucket/photos")
    assert kernel[1][2] == [80, 443, 5555]


def test_without_a_url_nothing_of_this_is_permitted(kernel, root, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/keys/google.json")
    for options in (dict(data=root), dict(roots=(root,)), {}):
        made = entered(**options)
        assert kernel[-1][2] == [5555]
        assert not [path for path in kernel[-1][1] if path.startswith(("/home/me", "/keys"))]
        with pytest.raises(UnfitWorker, match="reads files in s3://bucket/x, and the sandbox of this worker on .* does "
                                              "not connect to it: start it with --data s3://bucket/x"):
            made.enter_job("s3://bucket/x")
    made = entered(roots=("s3://bucket/x", root))
    made.enter_job("s3://bucket/x")
    made.enter_job("s3://bucket/x/train")
    with pytest.raises(UnfitWorker, match="--data s3://bucket/y"):
        made.enter_job("s3://bucket/y")
    assert kernel[-1][1][root] == landlock.READ


def test_a_function_of_the_users_may_write_copies_of_records(kernel, tmp_path):
    made = entered(roots=(), sandbox="on", allow_generators=("m:f",))
    assert kernel[-1][1][copies.folder()] == landlock.READ | landlock.WRITE
    assert "writes %s;" % copies.folder() in made.summary and copies.folder().startswith(str(tmp_path))


@pytest.mark.parametrize("environment, wanted", [
    ({}, [80, 443]), ({"AWS_ENDPOINT_URL": "http://127.0.0.1:8333"}, [80, 443, 8333]),
    ({"AWS_ENDPOINT_URL_S3": "https://minio"}, [80, 443]),
    ({"STORAGE_EMULATOR_HOST": "localhost:4443"}, [80, 443, 4443]),
    ({"https_proxy": "http://proxy:3128"}, [80, 443, 3128]),
    ({"HTTP_PROXY": "http://me:x@proxy:3129/"}, [80, 443, 3129]),
    ({"AZURE_STORAGE_CONNECTION_STRING": "A=b;BlobEndpoint=http://127.0.0.1:10005/dev;C=d"}, [80, 443, 10005]),
    ({"AZURE_STORAGE_USE_EMULATOR": "1"}, [80, 443, 10000]), ({"AWS_ENDPOINT_URL": "http://[nonsense"}, [80, 443]),
    ({"AWS_ENDPOINT_URL": "http://x:99999"}, [80, 443])])
def test_ports_of_stores(environment, wanted):
    assert store_rights.ports(["/mnt", "s3://bucket"], environment) == wanted
    assert store_rights.ports(["/mnt"], environment) == []


def test_credentials_that_are_replaced_while_a_worker_runs():
    token = "/var/run/secrets/eks.amazonaws.com/serviceaccount/token"
    environment = {"AWS_WEB_IDENTITY_TOKEN_FILE": token, "SSL_CERT_FILE": "relative.pem"}
    found = store_rights.files(["s3://b"], environment, "/h")
    assert {token, os.path.dirname(token), "/h/.aws"} <= set(found) and "relative.pem" not in found
    assert os.path.dirname("/h/token") not in store_rights.files(["s3://b"], {
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/h/token"}, "/h")
    assert store_rights.files(["/mnt"], {"AWS_WEB_IDENTITY_TOKEN_FILE": token}, "/h") == []


def test_a_folder_that_is_not_there_is_an_error(kernel, tmp_path):
    with pytest.raises(ConfigError, match="--allow-read .*gone: there is no such file or folder on "):
        entered(roots=(), allow_read=(str(tmp_path / "gone"),))
    assert entered(roots=(), sandbox="off", allow_read=(str(tmp_path / "gone"),)).summary == ""


def test_folders_of_the_program_may_hold_anything(kernel, monkeypatch, tmp_path):
    """Only what was imported from them can be read; of users' functions it is not known what they import later. The
    quarantine imports the same again, and so the names can be listed."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)] + sys.path)
    entered(roots=())
    made = entered(roots=(), sandbox="on", allow_generators=("m:f",))
    assert "reads Python and the folders of modules;" in made.summary
    assert [rights[str(tmp_path)] for _, rights, _, _ in kernel] == [landlock.READ_DIR, landlock.READ]


def test_links_may_lead_anywhere_if_the_host_permits_them(kernel, root):
    made = entered(data=root, follow_links=True)
    assert kernel[0][0] == landlock.ALL & ~landlock.READ and "reads everything (links" in made.summary
    made.enter_job("/another")
    assert len(kernel) == 1 and made.outdated("/another") == ""


def test_a_kernel_without_it_is_a_line_and_an_error_where_it_is_demanded(kernel):
    kernel.error = landlock.Unavailable(1, "Operation not permitted")
    made = entered()
    assert made.summary == "no sandbox: Landlock is not available (Operation not permitted)"
    made.enter_job("/data")
    assert made.outdated("/data") == "" and folder.explain_refusal is None
    with pytest.raises(ConfigError, match="--sandbox on: .*Operation not permitted"):
        entered(sandbox="on")


def test_where_only_the_job_tells_the_folder_reading_ends_there(kernel, root, tmp_path):
    made = entered()
    assert kernel[0][0] == landlock.ALL & ~landlock.READ
    made.enter_job("")                      # of the generator numerical
    made.enter_job(root)
    made.enter_job(root)
    assert len(kernel) == 2 and kernel[1][0] == landlock.READ and kernel[1][1][root] == landlock.READ
    assert made.outdated(root) == made.outdated(os.path.join(root, "cat")) == made.outdated() == ""
    assert made.outdated(str(tmp_path)) == "its sandbox is for the data in " + root
    assert made.outdated(root + "2") == "its sandbox is for the data in " + root
    with pytest.raises(UnfitWorker, match="its sandbox is for the data in " + root):
        made.enter_job(root + "2")          # of another trainer, whose Check came before the first job was entered


def test_where_the_options_tell_the_folder_another_one_is_no_reason_to_start_again(kernel, root):
    """``workers/bounds.py`` refuses such a job, and it may be a link to the folder."""
    assert entered(data=root).outdated("/another") == entered(allow_data=(root,)).outdated("/another") == ""
    assert [rights[root] for _, rights, _, _ in kernel] == [landlock.READ] * 2


def test_another_folder_in_the_place_of_the_data_needs_another_process(kernel, root):
    made = entered(roots=(root,))
    os.rename(root, root + "-old")
    assert made.outdated(root) == ""        # it is gone: the worker says so, and waits
    os.mkdir(root)
    assert made.outdated(root) == "%s is another folder than when its sandbox was made" % root
    late = entered(roots=(root + "-new",))
    assert late.outdated() == ""
    os.mkdir(root + "-new")                 # mounted later
    assert "is another folder" in late.outdated()


def test_files_that_other_programs_replace(kernel, tmp_path, monkeypatch):
    (tmp_path / "resolv.conf").write_text("")
    monkeypatch.setattr(sandbox, "_RESOLVER", (str(tmp_path / "resolv.conf"),))
    monkeypatch.setattr(sandbox, "SYSTEM_FILES", [str(tmp_path / "resolv.conf")])
    made = entered(roots=())
    assert not made.outdated_resolver()
    (tmp_path / "new").write_text("")
    os.rename(str(tmp_path / "new"), str(tmp_path / "resolv.conf"))
    assert made.outdated_resolver()


# ---------------------------------------------------------------------------------------------------- refusals

@pytest.fixture
def refuse(monkeypatch):
    """The kernel refuses to open files."""
    real = os.open

    def opened(path, flags, *more, **kwargs):
        if flags & os.O_PATH or not str(path).endswith(("jpg", "jpg'")):
            return real(path, flags, *more, **kwargs)
        raise PermissionError(13, "Permission denied")
    monkeypatch.setattr(os, "open", opened)


def why(root, name):
    with pytest.raises((BadFile, UnfitWorker)) as caught:
        folder.read_file(resolve(root, name))
    return "%s: %s" % (type(caught.value).__name__, caught.value)


def test_a_file_that_the_sandbox_permits_lacks_a_permission_of_its_own(kernel, root, refuse):
    assert why(root, "cat/0.jpg") == "BadFile: PermissionError: permission denied"      # without a sandbox
    entered(roots=(root,))
    assert why(root, "cat/0.jpg") == "BadFile: PermissionError: permission denied"
    os.symlink(root, root + "-link")                                   # the data's folder may be a link
    entered(roots=(root + "-link",))
    assert why(root + "-link", "cat/0.jpg") == "BadFile: PermissionError: permission denied"


def test_a_link_that_leads_out_has_the_reason_that_it_has_without_a_sandbox(kernel, root, tmp_path, refuse):
    (tmp_path / "out.jpg").write_bytes(b"picture")
    os.symlink(str(tmp_path / "out.jpg"), os.path.join(root, "cat", "link.jpg"))
    entered(roots=(root,))
    assert why(root, "cat/link.jpg") == "BadFile: " + folder.LINK_OUT
    sandbox.leave_to_worker()
    assert why(root, "cat/link.jpg") == "BadFile: " + folder.LINK_OUT


def test_a_file_that_the_sandbox_refuses_is_not_bad(kernel, root, refuse):
    entered(roots=(root,))
    os.rename(root, root + "-old")
    os.makedirs(os.path.join(root, "cat"))
    with open(os.path.join(root, "cat", "0.jpg"), "w") as file:
        file.write("picture")
    assert "UnfitWorker: %s is another folder than when its sandbox was made" % root in why(root, "cat/0.jpg")
    sandbox.leave_to_worker()
    assert "UnfitWorker" in why(root, "cat/0.jpg")


# ---------------------------------------------------------------------------------------------------- the kernel's part

def test_the_loader_of_a_program():
    head = b"\x7fELF\2\1" + b"\0" * 26 + struct.pack("<Q", 64) + b"\0" * 14 + struct.pack("<HH", 56, 2) + b"\0" * 6
    assert len(head) == 64
    table = struct.pack("<IIQQQQQQ", 6, 0, 0, 0, 0, 0, 0, 0) + struct.pack("<IIQQQQQQ", 3, 0, 176, 0, 0, 7, 7, 1)
    assert sandbox._loader(head + table + b"/ld.so\0rest") == "/ld.so"
    with pytest.raises(ValueError):
        sandbox._loader(head + table[:56] * 2)      # a static one
    assert all(os.path.exists(program) for program in sandbox._programs())


def test_older_kernels_are_asked_for_what_they_know(monkeypatch):
    calls = []
    monkeypatch.setattr(landlock, "_call", lambda number, *arguments: calls.append((number, arguments)) or 0)
    monkeypatch.setattr(os, "close", lambda fd: None)
    sizes = {}
    for version in (1, 2, 3, 4, 5, 6, 7):
        monkeypatch.setattr(landlock, "version", lambda version=version: version)
        calls.clear()
        done = landlock.restrict(landlock.ALL, {}, (5555,), scoped=True)
        attributes = calls[0][1][0]
        sizes[version] = len(attributes), bin(struct.unpack_from("=Q", attributes)[0]).count("1"), done.port
    assert sizes == {1: (8, 13, False), 2: (8, 14, False), 3: (8, 15, False), 4: (16, 15, True), 5: (16, 16, True),
                     6: (24, 16, True), 7: (24, 16, True)}

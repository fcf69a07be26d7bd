"""Which formats a worker opens, by the run's options and the versions of its libraries; and what is said about it."""

import io

import pytest
from PIL import Image

from stoker.pipeline import formats as names
from stoker.pipeline.coordinator.effects import Log
from stoker.pipeline.coordinator.notices import Notices
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.formats import FORMATS, checked, described, note, versions_in, warning, why_not
from stoker.pipeline.options import JobOptions, WorkerOptions
from stoker.pipeline.protocol.messages import Hello, Job, Lease, Sample
from stoker.pipeline.sources.dataset import Dataset, Splits
from stoker.pipeline.storage import folder
from stoker.pipeline.storage.folder import BadFile
from stoker.workers import formats, images, process
from stoker.workers.generators.registry import open_producer
from stoker.workers.readers import Readers
from tests.support.bad_pictures import photo
from tests.support.caching import Host
from tests.support.hostile_headers import huge_webp

OLD, NEW = {"webp": "1.2.1", "tiff": "4.3.0"}, {"webp": "1.6.0", "tiff": "4.7.2"}
WITHOUT = {"webp": "none", "tiff": "none"}
ARRAYS = JobOptions(image_size=(16, 16), labels=False).arrays
WEBP = huge_webp()


@pytest.fixture(autouse=True)
def after():
    yield
    formats.apply()


@pytest.fixture
def libraries(monkeypatch):
    """A function: as if this Pillow had these versions."""
    def have(versions):
        monkeypatch.setattr(formats, "versions", lambda: versions)
        formats.apply()
    yield have
    monkeypatch.undo()


def content(name, image=None):
    file = io.BytesIO()
    (image or photo()).save(file, name)
    return file.getvalue()


def job(root, **options):
    return Job("image", ARRAYS, 8, 0, "exact", str(root), image_size=(16, 16), **options)


# --------------------------------------------------------------------------------------------------------- the option

@pytest.mark.parametrize("value, expected", [
    (None, ()), ((), ()), ([], ()), ("jpeg", ("jpeg",)), ("png, JPG", ("jpeg", "png")),
    (["tif", "webp"], ("webp", "tiff")), (("png", "png"), ("png",)), (",".join(FORMATS), FORMATS)])
def test_names_of_formats(value, expected):
    assert checked(value) == JobOptions(formats=value).formats == expected


@pytest.mark.parametrize("value", ["", "jpeg,", "heic", ["png", 3], 3, b"png", {"png"}, "png jpeg"])
def test_other_names_are_refused(value):
    with pytest.raises(ConfigError, match="formats must be names among jpeg, png, webp, gif, bmp, tiff, ppm, not "):
        JobOptions(formats=value)


# --------------------------------------------------------------------------------------------------- what is refused

@pytest.mark.parametrize("version, is_safe", [
    ("1.2.1", False), ("1.3.1", False), ("1.3.2", True), ("1.3.10", True), ("1.10.0", True), ("2.0", True),
    ("0.6.1", False)])
def test_a_webp_wants_a_libwebp_without_the_fault_whatever_is_named(version, is_safe):
    for wanted in ((), ("webp",), FORMATS):
        assert (why_not("webp", wanted, version) == "") == is_safe
    if not is_safe:
        assert why_not("webp", FORMATS, version) == (
            "WebP, not opened, for libwebp %s has CVE-2023-4863: use workers with a newer Pillow (--worker-python)"
            % version)


def test_a_pillow_without_libwebp_opens_no_webp():
    assert why_not("webp", (), None).startswith("WebP, and this Pillow was built without libwebp: use workers with ")
    assert why_not("webp", ("jpeg",), None) == "WebP, and the run opens only jpeg (--formats)"


@pytest.mark.parametrize("version, is_safe", [("4.3.0", False), ("4.5.0", False), ("4.5.1", True), ("4.10", True),
                                              (None, True)])
def test_a_tiff_wants_a_newer_libtiff_unless_it_is_named(version, is_safe):
    assert (why_not("tiff", (), version) == "") == is_safe
    assert why_not("tiff", ("tiff",), version) == why_not("tiff", FORMATS, version) == ""
    if not is_safe:
        reason = why_not("tiff", (), version)
        assert "libtiff %s has known faults" % version in reason and "--formats with tiff in it" in reason


def test_a_format_that_is_not_named_is_refused():
    for name in FORMATS:
        assert why_not(name, (), "99") == why_not(name, (name,), "99") == ""
        other = "png" if name == "jpeg" else "jpeg"
        assert why_not(name, (other,), "99").endswith(", and the run opens only %s (--formats)" % other)


@pytest.mark.parametrize("versions", [OLD, {"webp": "0.0.0.0", "tiff": "4.3.0-with-a-long-suffix"}])
def test_a_reason_fits_in_a_row_of_the_list_of_bad_files(versions):
    for name in FORMATS:
        for wanted in ((), FORMATS[:1], FORMATS[1:]):
            assert len(why_not(name, wanted, versions.get(name))) < folder.MAX_REASON_CHARS


# ----------------------------------------------------------------------------------------------------------- a worker

@pytest.mark.parametrize("read", [lambda data: images.decoded(data, (8, 8), "fastest"),
                                  lambda data: images.decoded(data, (8, 8), "exact"),
                                  lambda data: images.converted(data, None, None, None)])
def test_what_is_refused_is_not_seen_by_pil(libraries, monkeypatch, read):
    libraries(OLD)
    monkeypatch.setattr(images.Image, "open", lambda *args, **kept: pytest.fail("PIL has opened it"))
    monkeypatch.setattr(images.jpeg, "reduced", lambda *args: pytest.fail("PIL has opened it"))
    for data, reason in ((WEBP, "CVE-2023-4863"), (content("TIFF"), "libtiff 4.3.0 has known faults")):
        with pytest.raises(BadFile, match=reason):
            read(data)
    formats.apply(("png",))
    for name in ("JPEG", "GIF", "BMP", "PPM"):
        with pytest.raises(BadFile, match="and the run opens only png"):
            read(content(name))


def test_the_first_bytes_decide_not_the_name(libraries, tmp_path):
    libraries(OLD)
    (tmp_path / "cat.jpg").write_bytes(WEBP)
    photo().save(str(tmp_path / "dog.webp"), "PNG")
    a_job = job(tmp_path)
    lease = Lease(0, 0, 0, True, (Sample(0, "cat.jpg", -1), Sample(1, "dog.webp", -1)))
    output = open_producer(a_job, WorkerOptions("tcp://127.0.0.1:5555")).produce(lease)
    assert [skip.index for skip in output.skipped] == [0] and "CVE-2023-4863" in output.skipped[0].reason
    with pytest.raises(BadFile, match="CVE-2023-4863"):
        Readers(a_job).image("cat.jpg", 8)
    assert Readers(a_job).bytes("cat.jpg") == WEBP          # the function may do with it what it wants


def test_a_job_s_formats_hold_until_the_next_job(libraries, tmp_path):
    libraries(OLD)
    photo().save(str(tmp_path / "x.tif"))
    lease = Lease(0, 0, 0, True, (Sample(0, "x.tif", -1),))
    for wanted, is_bad in (((), True), (FORMATS, False), (("jpeg",), True), (("tiff",), False)):
        output = open_producer(job(tmp_path, formats=wanted), WorkerOptions("tcp://127.0.0.1:5555")).produce(lease)
        assert len(output.skipped) == is_bad


def test_this_pillow_opens_what_its_libraries_are_safe_for():
    formats.apply()
    for name in ("WEBP", "TIFF"):
        version = formats.versions()[name.lower()]
        if version is None and name == "TIFF":
            continue
        if why_not(name.lower(), (), version):
            with pytest.raises(BadFile):
                images.decoded(WEBP if name == "WEBP" else content(name), (8, 8), "exact")
        else:
            assert images.decoded(content(name), (8, 8), "exact").size == (8, 8)


def test_a_picture_in_the_cache_is_not_found_by_a_job_that_does_not_open_it(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "_RACY_S", 0.0)         # the file is new
    photo().save(str(tmp_path / "x.gif"))
    host = Host(tmp_path / "cache")
    lease = Lease(0, 0, 0, True, (Sample(0, "x.gif", -1),))
    worker = WorkerOptions("tcp://127.0.0.1:5555")
    for hits in (0, 1):
        cache = host.worker()
        assert open_producer(job(tmp_path), worker, cache).produce(lease).skipped == ()
        assert cache.hits == hits
    output = open_producer(job(tmp_path, formats=("jpeg",)), worker, host.worker()).produce(lease)
    assert [skip.reason for skip in output.skipped] == ["GIF, and the run opens only jpeg (--formats)"]
    host.end()


# --------------------------------------------------------------------------------------------------- what is said of it

def test_the_versions_travel_in_hello():
    for versions, told in ((OLD, OLD), (NEW, NEW), ({"webp": None, "tiff": None}, WITHOUT)):
        assert versions_in("python 3.13.0, pillow 13.0.0, libjpeg-turbo 3.2.0, " + described(versions)) == told
    assert versions_in("python 3.6.15, pillow 8.4.0") == {"webp": None, "tiff": None}       # of an older release
    assert versions_in(process.versions()) == {name: version or "none" for name, version in formats.versions().items()}


def test_a_worker_says_at_its_start_what_it_does_not_open():
    assert note(NEW) == note({"webp": None, "tiff": None}) == ""
    assert note(OLD).startswith("this Pillow has libwebp 1.2.1 and libtiff 4.3.0 with known faults")
    assert "WebP files count as bad here:" in note(dict(NEW, webp="1.2.1"))


def hello(name, versions):
    return Hello(name, 1, "python 3.6.15, pillow 8.4.0, libjpeg 9.0, " + described(versions), 2, "")


def warnings(notices, *hellos):
    return [line.text for each in hellos for line in notices.joined(each, 1) if isinstance(line, Log)
            and line.is_warning and "by the name" in line.text]


def data(*paths):
    return Dataset("/data", ("a", "b"), paths, tuple(range(2)) * (len(paths) // 2) + (0,) * (len(paths) % 2), ())


def test_the_trainer_warns_once_if_the_data_has_such_files():
    training, validation = data("a/1.webp", "b/2.WEBP", "a/3.jpg"), data("a/4.webp", "b/5.tiff")
    notices = Notices(32, "--prefetch", True, (), Splits(training, validation))
    found = warnings(notices, hello("h:1/0", OLD), hello("h:1/1", OLD), hello("h:1/2", NEW))
    assert len(found) == 2
    assert found[0].startswith("3 files of the data are WebP by the name, and a worker has libwebp 1.2.1, which has "
                               "CVE-2023-4863: it does not open such files, and they count as bad. Use workers with a ")
    assert "(libwebp 1.3.2 or newer; --worker-python)" in found[0] and found[0].endswith("first such worker: h:1/0")
    assert found[1].startswith("1 file of the data is a TIFF by the name") and "--formats with tiff in it" in found[1]


def test_the_trainer_warns_of_a_pillow_that_was_built_without_a_library():
    plain, mixed = data("a/1.jpg", "b/2.png"), data("a/1.webp", "b/2.tif")
    found = warnings(Notices(32, "", True, (), Splits(mixed, mixed)), hello("h:1/0", WITHOUT), hello("h:1/1", NEW))
    assert [line.split(":")[0] for line in found] == [
        "1 file of the data is a %s by the name, and the Pillow of a worker was built without %s, as pillow-simd "
        "often is"
        % names for names in (("WebP", "libwebp"), ("TIFF", "libtiff"))]
    assert "opens no TIFF with compression, and such files count as bad. Use workers with" in found[1]
    assert warnings(Notices(32, "", True, (), Splits(plain, plain)), hello("h:1/0", WITHOUT)) == []
    assert warning("webp", ("jpeg",), "none", 5, "a worker") == warning("jpeg", (), "none", 5, "a worker") == ""


def test_the_trainer_does_not_warn_where_it_does_not_matter():
    plain, mixed = data("a/1.jpg", "b/2.png"), data("a/1.webp", "b/2.tif")
    assert warnings(Notices(32, "", True, (), Splits(plain, plain)), hello("h:1/0", OLD)) == []
    assert warnings(Notices(32, "", True, (), Splits(mixed, mixed)), hello("h:1/0", NEW)) == []
    assert warnings(Notices(32, "", False, (), Splits(mixed, mixed)), hello("h:1/0", OLD)) == []     # no pictures
    named = warnings(Notices(32, "", True, FORMATS, Splits(mixed, mixed)), hello("h:1/0", OLD))
    assert len(named) == 1 and "1 file of the data is a WebP" in named[0]
    assert warning("webp", ("jpeg",), "1.2.1", 5, "a worker") == ""        # the run does not open them in any case


def test_the_names_are_pil_s():
    Image.init()
    assert {name.upper() for name in names.FORMATS} <= set(Image.OPEN)

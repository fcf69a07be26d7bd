"""PIL's limits as options of a job: what is bad by default, and taken with them; by generators, readers, and functions
that open files with PIL themselves."""

import os
import warnings

import numpy as np
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from stoker.pipeline.formats import FORMATS
from stoker.pipeline.options import FORMER, MAX_PIXELS, JobOptions, WorkerOptions
from stoker.pipeline.protocol.messages import Job, Lease, Sample
from stoker.pipeline.storage import folder
from stoker.pipeline.storage.folder import BadFile
from stoker.workers import images, jpeg, limits
from stoker.workers.generators.registry import open_producer
from stoker.workers.readers import Readers
from tests.support.bad_pictures import photo, png, text_chunk
from tests.support.caching import Host

pytestmark = pytest.mark.usefixtures("named_formats")

ARRAYS = JobOptions(image_size=(16, 16), labels=False).arrays
WORKER = WorkerOptions("tcp://127.0.0.1:5555")
STOKERS = "MAX_IMAGE_PIXELS", MAX_PIXELS / 2       # what is in force by default


def job(root, **options):
    return Job("image", ARRAYS, 8, 0, options.pop("decode", "exact"), str(root), image_size=(16, 16),
               formats=FORMATS, **options)


@pytest.fixture(autouse=True)
def pils_own():
    limits.apply(job("/"))
    assert limits.in_force() == (STOKERS,)
    yield
    limits.apply(job("/"))


@pytest.fixture
def files(tmp_path):
    """Files that are bad by default: name -> the options that take it."""
    whole = tmp_path / "whole.jpg"
    photo().save(str(whole), quality=90)
    (tmp_path / "cut.jpg").write_bytes(whole.read_bytes()[:-300])
    photo().save(str(tmp_path / "whole.png"))
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:900])
    photo().save(str(tmp_path / "whole.tif"))
    (tmp_path / "cut.bmp").write_bytes(_bmp(tmp_path)[:-3000])
    (tmp_path / "large.png").write_bytes(png(14000, 14000))
    (tmp_path / "text.png").write_bytes(png(8, 8, text_chunk(3 << 20)))
    return {"cut.jpg": {"truncated": "use"}, "cut.png": {"truncated": "use"}, "cut.bmp": {"truncated": "use"},
            "large.png": {"max_pixels": 14000 * 14000}, "text.png": {"max_text_mb": 3}}


def _bmp(folder):
    photo().save(str(folder / "whole.bmp"))
    return (folder / "whole.bmp").read_bytes()


def batch(a_job, names, **kept):
    lease = Lease(0, 0, 0, True, tuple(Sample(number, name, -1) for number, name in enumerate(names)))
    return open_producer(a_job, WORKER, **kept).produce(lease)


@pytest.mark.parametrize("decode", ["exact", "fast", "fastest", "sampled"])
def test_files_that_are_bad_by_default_are_taken_with_an_option(files, tmp_path, decode):
    names = sorted(files)
    by_default = batch(job(tmp_path, decode=decode), names)
    assert [skip.index for skip in by_default.skipped] == list(range(len(names)))
    for options in files.values():
        output = batch(job(tmp_path, decode=decode, **options), names)
        taken = set(names) - {names[skip.index] for skip in output.skipped}
        too = {"text.png"} if options == {"truncated": "use"} else set()     # PIL then leaves the text out
        assert taken == {each for each in names if files[each] == options} | too
    assert len(batch(job(tmp_path, decode=decode), names).skipped) == len(names)         # set back


TRUNCATED = "; truncated='use' (--truncated use) takes the part that is there"


@pytest.mark.parametrize("decode", ["exact", "fast", "fastest", "sampled"])
def test_the_reason_names_the_option_wherever_it_takes_the_file(files, tmp_path, decode):
    """Files that end anywhere: in their header, where no option helps, or behind it."""
    advised = set()
    for name in ("whole.jpg", "whole.png", "whole.tif", "whole.bmp"):
        content = (tmp_path / name).read_bytes()
        for length in (40, 160, 300, 600, len(content) // 2, len(content) - 400):
            (tmp_path / "part").write_bytes(content[:length])
            limits.apply(job(tmp_path))
            try:
                images.load(str(tmp_path / "part"), (16, 16), decode)
            except BadFile as error:
                reason = str(error)
            else:
                continue
            limits.apply(job(tmp_path, truncated="use"))
            try:
                images.load(str(tmp_path / "part"), (16, 16), decode)
            except BadFile as error:
                assert TRUNCATED not in reason and TRUNCATED not in str(error)
            else:
                assert reason.endswith(TRUNCATED), (name, length)
                advised.add(name)
    assert advised == {"whole.jpg", "whole.png", "whole.tif", "whole.bmp"}


def test_the_reason_of_a_file_that_is_damaged_in_its_middle_names_it_too(files, tmp_path):
    content = bytearray((tmp_path / "whole.png").read_bytes())
    content[len(content) // 2] ^= 255
    for options, use in (({}, False), ({"truncated": "use"}, True)):
        limits.apply(job(tmp_path, **options))
        if use:
            assert images.decoded(bytes(content), (16, 16), "exact").size == (16, 16)
        else:
            with pytest.raises(BadFile, match="data stream.*--truncated use"):
                images.decoded(bytes(content), (16, 16), "exact")


def test_what_is_in_force_is_what_differs_from_pil(tmp_path, monkeypatch):
    limits.apply(job(tmp_path, max_pixels=1000, truncated="use"))
    assert limits.in_force() == (("MAX_IMAGE_PIXELS", 500), ("LOAD_TRUNCATED_IMAGES", True))
    limits.apply(job(tmp_path))
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", 7)       # by a module of the user
    assert limits.in_force() == (STOKERS, ("MAX_TEXT_MEMORY", 7))
    limits.apply(job(tmp_path, max_pixels=FORMER["max_pixels"]))    # PIL's own
    assert limits.in_force() == (("MAX_TEXT_MEMORY", 7),)


def test_the_part_that_is_there_is_what_pil_gives(files, tmp_path):
    limits.apply(job(tmp_path, truncated="use"))
    for name in ("cut.jpg", "cut.png", "cut.bmp"):
        with Image.open(str(tmp_path / name)) as image:
            wanted = image.resize((16, 16)).convert("RGB").tobytes()
        for _ in range(2):
            assert images.load(str(tmp_path / name), (16, 16), "exact").tobytes() == wanted
        whole = np.asarray(images.load(str(tmp_path / ("whole" + name[3:])), (16, 16), "exact")).astype(int)
        upper = abs(np.asarray(images.load(str(tmp_path / name), (16, 16), "exact")) - whole)[:3]
        bottom_up = name == "cut.bmp"
        assert upper.max() <= 40 or bottom_up


def test_readers_of_functions_and_pil_itself_obey_the_job(files, tmp_path):
    for name, options in files.items():
        a_job = job(tmp_path, **options)
        for arguments in ((), ((16, 16),), ((16, 16), "L", "box")):
            if name == "large.png" and not arguments:
                continue                # 600 MB
            limits.apply(job(tmp_path))
            with pytest.raises(BadFile):
                Readers(job(tmp_path)).image(name, *arguments)
            limits.apply(a_job)
            assert Readers(a_job).image(name, *arguments).size
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(str(tmp_path / name)) as image:         # as a function of the user does
                assert name == "large.png" or image.load()


def test_a_larger_limit_is_to_the_pixel_and_a_smaller_one_too(tmp_path):
    photo(0, (40, 50)).save(str(tmp_path / "x.jpg"))
    photo(0, (40, 50)).save(str(tmp_path / "x.png"))
    for name in ("x.jpg", "x.png"):
        for decode in ("exact", "fastest"):
            limits.apply(job(tmp_path, max_pixels=2000))
            images.load(str(tmp_path / name), (8, 8), decode)
            limits.apply(job(tmp_path, max_pixels=1999))
            with pytest.raises(BadFile) as caught:
                images.load(str(tmp_path / name), (8, 8), decode)
            assert str(caught.value) == ("DecompressionBombError: Image size (2000 pixels) exceeds limit of 1999 "
                                         "pixels; max_pixels (--max-pixels) permits more")
    assert jpeg.size_of((tmp_path / "x.jpg").read_bytes()) is None


def test_what_a_module_of_the_user_sets_stays_unless_the_job_says_otherwise(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    limits.apply(job(tmp_path))
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True and Image.MAX_IMAGE_PIXELS is None
    limits.apply(job(tmp_path, max_pixels=1000, max_text_mb=2))
    assert Image.MAX_IMAGE_PIXELS == 500 and PngImagePlugin.MAX_TEXT_CHUNK == 2 << 20
    limits.apply(job(tmp_path, max_text_mb=3))
    assert Image.MAX_IMAGE_PIXELS is None and PngImagePlugin.MAX_TEXT_CHUNK == 3 << 20
    limits.apply(job(tmp_path))
    assert PngImagePlugin.MAX_TEXT_CHUNK == 1 << 20 and PngImagePlugin.MAX_TEXT_MEMORY == 64 << 20


def test_what_a_module_of_the_user_sets_after_a_job_stays_too(tmp_path, monkeypatch):
    """A module that is imported for the second job of a process, or sets PIL's variables while it runs."""
    limits.apply(job(tmp_path))
    assert Image.MAX_IMAGE_PIXELS == MAX_PIXELS / 2
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1234)
    for _ in range(2):
        limits.apply(job(tmp_path))
        assert Image.MAX_IMAGE_PIXELS == 1234
    limits.apply(job(tmp_path, max_pixels=1000))
    assert Image.MAX_IMAGE_PIXELS == 500
    limits.apply(job(tmp_path))
    assert Image.MAX_IMAGE_PIXELS == 1234


def test_a_checkpoint_of_an_older_release_has_pils_own_limit(tmp_path):
    limits.apply(Job("image", ARRAYS, 8, 0, "exact", str(tmp_path), **FORMER))
    assert limits.in_force() == () and limits.max_pixels() == 178956970 and limits.max_file_bytes() == 1 << 30


def test_the_size_of_a_file_is_limited_by_the_job(tmp_path):
    photo().save(str(tmp_path / "x.bmp"))
    os.truncate(str(tmp_path / "x.bmp"), (1 << 20) + 1)     # all but its beginning is a hole
    for max_file_mb, is_bad in ((1, True), (2, False)):
        a_job = job(tmp_path, max_file_mb=max_file_mb)
        output = batch(a_job, ["x.bmp"])
        assert [skip.reason for skip in output.skipped] == is_bad * [
            "a file of more than 1048576 bytes; max_file_mb (--max-file-mb) permits more"]
        if is_bad:
            with pytest.raises(BadFile, match="a file of more than 1048576 bytes"):
                Readers(a_job).image("x.bmp")
        assert len(Readers(a_job).bytes("x.bmp")) == (1 << 20) + 1      # only pictures have this limit


@pytest.fixture
def host(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "_RACY_S", 0.0)         # the files are new
    host = Host(tmp_path / "cache")
    yield host
    host.end()


def test_a_cached_picture_of_another_limit_is_not_found(files, tmp_path, host):
    """A truncated picture in the cache would else be good in a run for which it is bad."""
    names = sorted(set(files) - {"large.png"})
    for hits in (0, 4):
        cache = host.worker()
        assert [names[skip.index] for skip in batch(job(tmp_path, truncated="use"), names, cache=cache).skipped] == []
        assert cache.hits == hits
    assert len(batch(job(tmp_path), names, cache=host.worker()).skipped) == len(names)

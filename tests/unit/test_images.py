"""Real files, written by PIL into tmp_path, read back by workers.images."""

import errno
import os
import random
import resource
import warnings

import numpy as np
import pytest
from PIL import Image, ImageOps

from stoker.pipeline.errors import ConfigError, ProtocolError
from stoker.pipeline.storage import folder
from stoker.workers import images, jpeg, limits
from tests.support import bad_pictures
from tests.support.formats import kinds, needs_webp

pytestmark = pytest.mark.usefixtures("named_formats")

HEIGHT, WIDTH = 97, 161  # no multiples of anything
SCALED = ("fast", "fastest", "sampled")


def photo(height=HEIGHT, width=WIDTH):
    """Something smooth in three different channels, as photos are."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    channels = [np.sin(x / 37 + y / 53), np.cos(x / 29 - y / 41), np.sin((x + 2 * y) / 61)]
    return Image.fromarray(np.uint8(np.stack(channels, axis=-1) * 120 + 128))


def translucent(image):
    image = image.convert("RGBA")
    alpha = np.tile(np.arange(image.width) % 256, (image.height, 1)).astype(np.uint8)
    image.putalpha(Image.fromarray(alpha))
    return image


#: name -> how that file is written. Every mode that PIL has a different path for.
FILES = {
    "rgb.jpg": lambda path: photo().save(path, quality=90),
    "large.jpg": lambda path: photo(601, 449).save(path, quality=90),
    "grey.jpg": lambda path: photo().convert("L").save(path),
    "cmyk.jpg": lambda path: photo().convert("CMYK").save(path),
    "progressive.jpg": lambda path: photo().save(path, progressive=True),
    "rgb.png": lambda path: photo().save(path),
    "rgba.png": lambda path: translucent(photo()).save(path),
    "palette.png": lambda path: photo().convert("P").save(path),
    "transparent-palette.png": lambda path: photo().convert("P").save(path, transparency=b"\x00\x80" * 128),
    "bits.png": lambda path: photo().convert("1").save(path),
    "la.png": lambda path: translucent(photo()).convert("LA").save(path),
    "palette.gif": lambda path: photo().convert("P").save(path),
    "rgb.bmp": lambda path: photo().save(path),
    "rgb.tif": lambda path: photo().save(path),
    "png-named.jpg": lambda path: photo().save(path, format="PNG"),
}


@pytest.fixture(params=sorted(FILES))
def file(request, tmp_path):
    path = str(tmp_path / request.param)
    FILES[request.param](path)
    return path


def tutorial(path, height, width):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as img:
            return np.array(img.resize((width, height)).convert("RGB")) / 255.0


def psnr(a, b):
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    return 10 * np.log10(255 ** 2 / max(np.mean(difference ** 2), 1e-9))


# --------------------------------------------------------------------------------------------- load

def test_exact_is_the_tutorials_expression_to_the_last_bit(file):
    for size in ((33, 80), (HEIGHT, WIDTH), (130, 240)):
        image = images.load(file, size, "exact")
        assert image.mode == "RGB" and image.size == size[::-1]
        assert np.array_equal(np.array(image) / 255.0, tutorial(file, *size))


@pytest.mark.parametrize("decode", SCALED)
def test_scaled_decoding_gives_rgb_of_that_size_for_every_mode(file, decode):
    for size in ((33, 80), (130, 240), (1, 1)):
        image = images.load(file, size, decode)
        assert image.mode == "RGB" and image.size == size[::-1]


@pytest.mark.parametrize("name", ["rgb.jpg", "large.jpg", "grey.jpg", "cmyk.jpg", "progressive.jpg", "rgb.png",
                                  "rgba.png", "la.png", "rgb.bmp"])
def test_fast_is_close_to_exact(tmp_path, name):
    path = str(tmp_path / name)
    FILES[name](path)
    for size in ((16, 24), (48, 30)):
        assert psnr(images.load(path, size, "fast"), images.load(path, size, "exact")) > 38


def grainy(height, width, seed=0):
    """As hard to reduce as a photo: like in photos, the amplitude falls with one over the frequency."""
    random_state = np.random.RandomState(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = 1.0
    channels = []
    for _ in range(3):
        spectrum = np.fft.rfft2(random_state.normal(size=(height, width))) / frequency
        channel = np.fft.irfft2(spectrum, (height, width))
        channels.append(128 + 45 * (channel - channel.mean()) / channel.std())
    return Image.fromarray(np.uint8(np.clip(np.stack(channels, axis=-1), 0, 255)))


def resized(path, height, width, resample):
    with Image.open(path) as img:
        return img.convert("RGB").resize((width, height), resample)


def sampled_as_tensorflow_does(path, height, width):
    """What ``tf.image.resize_bilinear`` of TF 1.9 gives: two by two pixels weighted, however many there are."""
    with Image.open(path) as img:
        pixels = np.asarray(img, float)
    rows, columns = (np.arange(size) * old / size for size, old in zip((height, width), pixels.shape))
    for axis, places in ((0, rows), (1, columns)):
        low = places.astype(int)
        high = np.minimum(low + 1, pixels.shape[axis] - 1)
        share = (places - low).reshape((-1, 1, 1) if axis == 0 else (-1, 1))
        pixels = pixels.take(low, axis) * (1 - share) + pixels.take(high, axis) * share
    return pixels


@pytest.mark.parametrize("size", [(64, 64), (96, 128), (224, 224)])
@pytest.mark.parametrize("seed", range(3))
def test_the_quality_of_each_way_to_decode(tmp_path, size, seed):
    path = str(tmp_path / "grainy.jpg")
    grainy(375, 500, seed).save(path, quality=88)
    bicubic, bilinear = (resized(path, *size, resample=resample) for resample in (Image.BICUBIC, Image.BILINEAR))
    assert psnr(images.load(path, size, "fast"), bicubic) > 45
    assert psnr(images.load(path, size, "fastest"), bilinear) > 36
    tensorflow = sampled_as_tensorflow_does(path, *size)
    assert psnr(images.load(path, size, "sampled"), bilinear) > psnr(tensorflow, bilinear) - 3


def test_an_unknown_way_to_decode_is_not_the_files_fault(tmp_path):
    photo().save(str(tmp_path / "x.jpg"))
    with pytest.raises(ConfigError, match="decode must be one of exact, fast, fastest, sampled, not 'slow'"):
        images.load(str(tmp_path / "x.jpg"), (8, 8), "slow")


@pytest.mark.parametrize("size", [(64, 64), (150, 210), (224, 224), (300, 400)])
def test_fastest_is_what_pillow_means_by_a_gap_of_one(tmp_path, size):
    path = str(tmp_path / "grainy.jpg")
    grainy(375, 500).save(path, quality=88)
    with Image.open(path) as image:
        _, box = image.draft(None, size[::-1])
        wanted = image.resize(size[::-1], Image.BILINEAR, box, reducing_gap=1.0)
    assert np.array_equal(images.load(path, size, "fastest"), wanted)


@pytest.mark.parametrize("options", [{"quality": 50}, {"quality": 95, "subsampling": 0},
                                     {"quality": 90, "subsampling": 1}, {"progressive": True},
                                     {"optimize": True, "comment": b"x" * 70},
                                     {"restart_marker_blocks": 3}, {"dpi": (300, 300)},
                                     {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"},
                                     {"icc_profile": b"p" * 80000}])
@pytest.mark.parametrize("height, width", [(375, 500), (601, 449), (17, 9), (1, 1)])
def test_the_faster_way_decodes_as_the_plugin_does(tmp_path, height, width, options):
    path = str(tmp_path / "x.jpg")
    photo(height, width).save(path, **options)
    with open(path, "rb") as file:
        data = file.read()
    assert jpeg.size_of(data) == (width, height)
    for wanted in ((1, 1), (7, 5), (60, 47), (125, 94), (250, 188), (999, 999)):
        with Image.open(path) as image:
            _, box = image.draft(None, wanted)
            image.load()
        short, part = jpeg.reduced(data, wanted)
        assert short.mode == image.mode == "RGB" and part == tuple(box)
        assert short.size == image.size and short.tobytes() == image.tobytes()


def test_only_ordinary_jpegs_are_decoded_the_faster_way(tmp_path):
    for name in ("grey.jpg", "cmyk.jpg", "rgb.png", "rgb.tif"):
        FILES[name](str(tmp_path / name))
        assert jpeg.size_of((tmp_path / name).read_bytes()) is None
    photo().save(str(tmp_path / "x.jpg"))
    data = (tmp_path / "x.jpg").read_bytes()
    frame = data.index(b"\xff\xc0")
    large = data[:frame + 5] + b"\xff\xff\xff\xff" + data[frame + 9:]
    assert [jpeg.size_of(piece) for piece in (b"", data[:2], data[:frame + 6], data[2:], large)] == [None] * 5
    for piece in (data[:-40], data[:frame + 40], data[:len(data) // 2], data[:frame] + b"\xff\xd9" * 20):
        assert jpeg.reduced(piece, (8, 8)) is None


def test_any_beginning_of_a_jpeg_has_a_size_or_none(tmp_path):
    FILES["rgb.jpg"](str(tmp_path / "rgb.jpg"))
    data = (tmp_path / "rgb.jpg").read_bytes()
    assert {jpeg.size_of(data[:end]) for end in range(700)} == {None, (WIDTH, HEIGHT)}
    chance = random.Random(0)
    for _ in range(2000):
        spoilt = bytearray(data[:700])
        for _ in range(3):
            spoilt[chance.randrange(len(spoilt))] = chance.randrange(256)
        size = jpeg.size_of(bytes(spoilt))
        assert size is None or 0 < size[0] * size[1] <= 1 << 26


def test_fast_is_what_pillows_thumbnail_does(tmp_path):
    # On noise every other way of reducing (none at all, or to less than twice the target) gives something else.
    path = str(tmp_path / "noise.jpg")
    noise = np.random.RandomState(0).randint(0, 256, (600, 800, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path, quality=95)
    for height, width in ((75, 100), (30, 40)):
        with Image.open(path) as thumbnail:
            thumbnail.thumbnail((width, height))
            assert np.array_equal(images.load(path, (height, width), "fast"), thumbnail)


def test_fast_leaves_no_border_of_the_reduced_jpeg(tmp_path):
    # 449 is no multiple of 8: the reduced image has a last column that is only partly picture.
    path = str(tmp_path / "ramp.jpg")
    ramp = np.tile(np.linspace(0, 255, 449), (601, 1)).astype(np.uint8)
    Image.fromarray(ramp).save(path, quality=95)
    fast, exact = (np.asarray(images.load(path, (16, 16), decode), int) for decode in ("fast", "exact"))
    assert np.abs(fast - exact).max() <= 2


def test_a_palette_is_resolved_before_fast_resizes(tmp_path):
    path = str(tmp_path / "palette.png")
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).convert("P").save(path)
    means = np.asarray(images.load(path, (8, 8), "fast"))
    assert means.min() > 100 and means.max() < 155  # averaged; nearest neighbour would give 0 or 255


# ------------------------------------------------------------------------------------------- errors

def jpeg_bytes(tmp_path):
    photo().save(str(tmp_path / "whole.jpg"), quality=90)
    return (tmp_path / "whole.jpg").read_bytes()


BAD = {
    "zero-bytes": lambda path, tmp_path: path.write_bytes(b""),
    "text": lambda path, tmp_path: path.write_text("this is no picture\n" * 40),
    "truncated-jpeg": lambda path, tmp_path: path.write_bytes(jpeg_bytes(tmp_path)[:-2000]),
    "jpeg-header-only": lambda path, tmp_path: path.write_bytes(jpeg_bytes(tmp_path)[:30]),
    "html": lambda path, tmp_path: path.write_text("<html><body>404 Not Found</body></html>"),
    "eps": lambda path, tmp_path: photo().save(str(path), format="EPS"),
    "gone": lambda path, tmp_path: None,
    "directory": lambda path, tmp_path: path.mkdir(),
    "dangling-link": lambda path, tmp_path: path.symlink_to(tmp_path / "nowhere"),
    "loop": lambda path, tmp_path: path.symlink_to(path),
    "pipe": lambda path, tmp_path: os.mkfifo(str(path)),
}

REASONS = {
    "zero-bytes": "empty file",
    "text": "UnidentifiedImageError: cannot identify image file",
    "gone": "FileNotFoundError: no such file",
    "directory": "IsADirectoryError: is a directory",
    "dangling-link": "FileNotFoundError: no such file",
    "loop": "OSError: too many levels of symbolic links",
    "pipe": "not a regular file",
    "truncated-jpeg": "OSError: image file is truncated; truncated='use' (--truncated use) takes the part that is "
                      "there",
    "eps": "PostScript, not JPEG, PNG, WebP, GIF, BMP, TIFF or PPM",
    "html": "an HTML page, not a picture",
}


@pytest.mark.parametrize("kind", sorted(BAD))
def test_a_bad_file_has_a_short_stable_reason(tmp_path, kind):
    path = tmp_path / "bad.jpg"
    BAD[kind](path, tmp_path)
    for decode in ("exact",) + SCALED:
        with pytest.raises(folder.BadFile) as caught:
            images.load(str(path), (20, 30), decode)
        reason = str(caught.value)
        assert reason == REASONS.get(kind, reason)
        assert 0 < len(reason) <= 200 and "\n" not in reason
        assert str(tmp_path) not in reason and "0x" not in reason


def test_truncated_png_and_broken_pixels(tmp_path):
    path = tmp_path / "whole.png"
    photo().save(str(path))
    whole = path.read_bytes()
    for content in (whole[:len(whole) // 2], whole[:200] + b"\xff" * 400 + whole[600:], whole[:20]):
        path.write_bytes(content)
        with pytest.raises(folder.BadFile):
            images.load(str(path), (20, 30), "exact")


def test_any_content_is_a_picture_or_a_bad_file(tmp_path):
    """Single bytes of real files changed at random: no other error than BadFile may be raised."""
    chance = random.Random(7)
    bad = 0
    for name in ("rgb.jpg", "palette.png", "palette.gif", "rgb.bmp", "rgb.tif"):
        path = tmp_path / name
        FILES[name](str(path))
        whole = path.read_bytes()
        for _ in range(25):
            content = bytearray(whole)
            for _ in range(3):
                content[chance.randrange(min(len(content), 400))] = chance.randrange(256)
            path.write_bytes(bytes(content))
            try:
                images.load(str(path), (8, 12), "exact")
            except folder.BadFile:
                bad += 1
    assert bad > 10  # else the files were not really damaged


def test_a_name_too_long_and_a_file_for_a_folder(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(folder.BadFile, match="^OSError: name too long$"):
        images.load(str(tmp_path / ("x" * 300)), (8, 8), "fast")
    with pytest.raises(folder.BadFile, match="^NotADirectoryError: "):
        images.load(str(tmp_path / "file" / "x.jpg"), (8, 8), "fast")


def test_a_file_that_may_not_be_read_is_bad(tmp_path):
    path = tmp_path / "secret.jpg"
    path.write_bytes(b"")
    path.chmod(0)
    user = os.geteuid()
    if user == 0:  # root may read everything: become another user for a moment
        os.seteuid(65534)
    try:
        with pytest.raises(folder.BadFile, match="^PermissionError: permission denied$"):
            images.load(str(path), (8, 8), "fast")
    finally:
        os.seteuid(user)


def test_no_file_handles_left_is_not_the_files_fault(tmp_path):
    path = str(tmp_path / "rgb.jpg")
    FILES["rgb.jpg"](path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        with pytest.raises(OSError) as caught:
            images.load(path, (8, 8), "fast")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.errno == errno.EMFILE
    images.load(path, (8, 8), "fast")


def test_a_failing_read_is_not_the_files_fault(tmp_path):
    try:
        with open("/proc/self/mem", "rb") as memory:
            memory.read(1)
    except OSError as error:
        if error.errno != errno.EIO:
            pytest.skip("no file here that is sure to fail with EIO")
    else:
        pytest.skip("no file here that is sure to fail with EIO")
    (tmp_path / "x.jpg").symlink_to("/proc/self/mem")
    with pytest.raises(OSError) as caught:
        images.load(str(tmp_path / "x.jpg"), (8, 8), "fast")
    assert caught.value.errno == errno.EIO


@pytest.mark.parametrize("error, expected", [
    (MemoryError(), MemoryError),
    (OSError("out of memory error when reading image file"), MemoryError),
    (OSError(-9), MemoryError),                         # of libtiff, with older Pillows
    (OSError("decoder error -9"), MemoryError),
    (OSError(errno.ESTALE, "Stale file handle"), OSError),
    (KeyboardInterrupt(), KeyboardInterrupt),
    (ImportError("no plugin"), ImportError),
])
def test_errors_for_lack_of_resources_are_not_the_files_fault(tmp_path, monkeypatch, error, expected):
    def fail(file, formats):
        raise error

    path = str(tmp_path / "rgb.jpg")
    FILES["rgb.jpg"](path)
    monkeypatch.setattr(images.Image, "open", fail)  # none of these can be had for real without harm
    with pytest.raises(expected):
        images.load(path, (8, 8), "exact")


def test_a_decompression_bomb_is_bad_and_a_merely_large_picture_is_not(tmp_path, monkeypatch, recwarn):
    path = str(tmp_path / "rgb.png")
    FILES["rgb.png"](path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH - 1)
    warnings.simplefilter("error")  # as under python -W error: the same must come out
    images.load(path, (8, 8), "exact")
    assert not recwarn.list
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH // 2 - 1)
    with pytest.raises(folder.BadFile, match="^DecompressionBombError: "):
        images.load(path, (8, 8), "exact")


def test_no_file_stays_open(tmp_path):
    good, bad = tmp_path / "rgb.jpg", tmp_path / "bad.jpg"
    FILES["rgb.jpg"](str(good))
    bad.write_bytes(good.read_bytes()[:-1500])
    kept = []  # neither an image nor an error may keep its file open
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        kept.append(images.load(str(good), (8, 8), "fast"))
        with pytest.raises(folder.BadFile) as caught:
            images.load(str(bad), (8, 8), "exact")
        kept.append(caught)
    assert len(os.listdir("/proc/self/fd")) == before


# ------------------------------------------------------------------------------------------ resolve

def test_resolve_joins_root_and_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("photos")
    root = os.path.join(str(tmp_path), "photos")
    assert folder.resolve(root, "cats/1.jpg") == os.fsencode(root) + b"/cats/1.jpg"
    assert folder.resolve("photos", "caf\u00e9/\udcff.jpg") == b"photos/caf\xc3\xa9/\xff.jpg"
    assert folder.resolve("photos", "..a/b..jpg/...") == b"photos/..a/b..jpg/..."


def test_a_host_without_the_dataset_is_an_error_of_its_own(tmp_path):
    with pytest.raises(ConfigError, match="nowhere is not there on .*--data"):
        folder.resolve(str(tmp_path / "nowhere"), "a.jpg")


@pytest.mark.parametrize("path", ["", "/etc/passwd", "//etc/passwd", "..", "../x.jpg", "a/../../x.jpg", "a/..",
                                  "a\0.jpg", "\ud800.jpg"])
def test_resolve_refuses_what_is_not_below_the_root(path):
    with pytest.raises(ProtocolError, match="a lease names the file"):
        folder.resolve("/data", path)


@pytest.mark.parametrize("name", ["caf\u00e9.jpg", "\u732b.jpg", "\udcff\udcfe.jpg"])
def test_undecodable_and_foreign_names_open(tmp_path, name):
    path = folder.resolve(str(tmp_path), name)
    FILES["rgb.jpg"](str(tmp_path / "x.jpg"))
    os.rename(str(tmp_path / "x.jpg").encode(), path)
    assert images.load(path, (8, 12), "fast").size == (12, 8)


# ------------------------------------------------------------------------------------------ augment

def flat(value):
    return Image.fromarray(np.full((6, 9, 3), value, np.uint8))


def test_augment_is_a_function_of_image_and_seed():
    image = photo(40, 60)
    for seed in range(20):
        once, again = images.augment(image, random.Random(seed)), images.augment(image, random.Random(seed))
        assert np.array_equal(once, again)
        assert once.mode == "RGB" and once.size == image.size


def test_augment_leaves_its_image_alone():
    image = photo(20, 30)
    before = np.array(image)
    for seed in range(8):
        images.augment(image, random.Random(seed))
    assert np.array_equal(before, image)


def test_augment_always_draws_four_numbers():
    for seed in range(20):
        used, counted = random.Random(seed), random.Random(seed)
        images.augment(flat(100), used)
        for _ in range(4):
            counted.random()
        assert used.random() == counted.random()


def test_augment_varies_half_and_flips_a_quarter():
    # Left half dark, right half bright: a flip is seen whatever happens to brightness and contrast.
    pixels = np.full((4, 8, 3), 60, np.uint8)
    pixels[:, 4:] = 180
    image = Image.fromarray(pixels)
    chance = random.Random(1)
    varied = flipped = 0
    for _ in range(1000):
        out = np.asarray(images.augment(image, chance), int)
        varied += not np.array_equal(out, pixels)
        flipped += out[0, 0, 0] > out[0, -1, 0]
    assert 430 < varied < 570    # 500 +- 16 (one sigma)
    assert 190 < flipped < 310   # 250 +- 14


def test_augments_brightness_is_uniform_from_08_to_12():
    # Of a flat image contrast changes nothing: what is left is the brightness factor.
    chance = random.Random(2)
    factors = [np.asarray(images.augment(flat(200), chance))[0, 0, 0] / 200.0 for _ in range(1000)]
    factors = np.array([factor for factor in factors if factor != 1.0])
    assert 0.795 <= factors.min() < 0.815 and 1.185 < factors.max() <= 1.205
    assert abs(factors.mean() - 1.0) < 0.02
    assert abs((factors < 0.9).mean() - 0.25) < 0.05


def test_augments_contrast_is_around_the_pictures_mean():
    pixels = np.full((4, 8, 3), 60, np.uint8)
    pixels[:, 4:] = 180
    chance = random.Random(3)
    ratios = []
    for _ in range(1000):
        out = np.asarray(images.augment(Image.fromarray(pixels), chance), float)
        ratios.append((out.max() - out.min()) / (out.max() + out.min()) / 0.5)  # brightness cancels
    assert 0.78 < min(ratios) < 0.84 and 1.16 < max(ratios) < 1.22


# ---------------------------------------------------------------------------- every kind of picture, every bad one

@pytest.mark.parametrize("kind", kinds(sorted(bad_pictures.ODD)))
def test_odd_pictures_are_what_pil_makes_of_them(tmp_path, kind):
    path = str(tmp_path / kind)
    bad_pictures.ODD[kind](path)
    assert np.array_equal(np.array(images.load(path, (30, 40), "exact")) / 255.0, tutorial(path, 30, 40))
    for exif_rotate in (False, True):
        fast = images.load(path, (30, 40), "fast", exif_rotate)
        assert fast.mode == "RGB" and fast.size == (40, 30)


@pytest.mark.parametrize("kind", sorted(bad_pictures.BAD))
def test_bad_files_have_a_reason(tmp_path, kind):
    root = tmp_path / "pictures" / "class"
    root.mkdir(parents=True)
    write, reason = bad_pictures.BAD[kind]
    bad_pictures.photo().save(str(tmp_path / "outside.jpg"))
    write(str(root / kind))
    for decode in ("exact",) + SCALED:
        with pytest.raises(folder.BadFile, match="^(%s)" % reason):
            images.load(folder.resolve(str(root), kind), (8, 8), decode)


@pytest.mark.parametrize("kind", sorted(bad_pictures.LATE))
def test_files_that_become_bad_have_a_reason(tmp_path, kind):
    path = str(tmp_path / kind)
    bad_pictures.photo().save(path)
    images.load(folder.resolve(str(tmp_path), kind), (8, 8), "fast")
    change, reason = bad_pictures.LATE[kind]
    change(path)
    with pytest.raises(folder.BadFile, match="^(%s)$" % reason):
        images.load(folder.resolve(str(tmp_path), kind), (8, 8), "fast")


def test_a_file_of_absurd_size_is_not_read(tmp_path):
    path = tmp_path / "huge.jpg"
    bad_pictures.photo().save(str(path))
    os.truncate(str(path), limits.max_file_bytes() + 1)      # all but its beginning is a hole
    with pytest.raises(folder.BadFile, match="^a file of more than 134217728 bytes; max_file_mb .--max-file-mb. "
                                             "permits more$"):
        images.load(str(path), (8, 8), "fast")


# -------------------------------------------------------------------------------------------------- EXIF rotation

def turned(path, height, width):
    """What 'exact' promises."""
    with Image.open(path) as img:
        return np.array(ImageOps.exif_transpose(img).resize((width, height)).convert("RGB"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix, options", [
    ("jpg", {"quality": 95}), ("png", {}), pytest.param("webp", {"lossless": True}, marks=needs_webp)])
def test_exif_rotation(tmp_path, suffix, options, orientation):
    path = str(tmp_path / ("x." + suffix))
    photo(160, 240).save(path, exif=bad_pictures.exif(orientation)[6 * (suffix == "webp"):], **options)
    exact = np.asarray(images.load(path, (36, 20), "exact", True))
    assert np.array_equal(exact, turned(path, 36, 20))
    assert np.array_equal(exact, images.load(path, (36, 20), "exact")) == (orientation == 1)
    fast = images.load(path, (36, 20), "fast", True)
    assert fast.size == (20, 36) and psnr(fast, exact) > 34


def test_a_turned_palette_is_exact_too(tmp_path):
    path = str(tmp_path / "x.png")
    photo().convert("P").save(path, exif=bad_pictures.exif(6))
    assert np.array_equal(images.load(path, (30, 40), "exact", True), turned(path, 30, 40))


@pytest.mark.parametrize("decode", ["fast", "fastest", "sampled"])
def test_a_lying_picture_is_reduced_for_its_upright_sides(tmp_path, decode):
    lying, plain = str(tmp_path / "lying.jpg"), str(tmp_path / "plain.jpg")
    photo(160, 1280).save(lying, exif=bad_pictures.exif(6))
    photo(160, 1280).save(plain)
    wanted = images.load(plain, (20, 160), decode).transpose(Image.ROTATE_270)
    assert np.array_equal(images.load(lying, (160, 20), decode, True), wanted)


@pytest.mark.parametrize("kind", sorted(bad_pictures.BROKEN_EXIF))
@pytest.mark.parametrize("decode", ("exact",) + SCALED)
def test_invalid_exif_data_is_ignored(tmp_path, kind, decode):
    path = str(tmp_path / "x.jpg")
    photo().save(path, exif=bad_pictures.BROKEN_EXIF[kind])
    assert np.array_equal(images.load(path, (30, 40), decode, True), images.load(path, (30, 40), decode))


@pytest.mark.parametrize("decode", ("exact",) + SCALED)
def test_a_tiff_is_turned_once(tmp_path, decode):
    upright, lying = str(tmp_path / "upright.tif"), str(tmp_path / "lying.tif")
    photo().save(upright)
    photo().transpose(Image.ROTATE_90).save(lying, tiffinfo={0x0112: 6})      # to be turned by 90 degrees, clockwise
    with Image.open(lying) as image:
        assert image.tag_v2[0x0112] == 6
    for exif_rotate in (False, True):    # PIL does it in any case
        assert np.array_equal(images.load(lying, (30, 40), decode, exif_rotate),
                              images.load(upright, (30, 40), decode))


def test_a_truncated_picture_with_exif_data_is_bad(tmp_path):
    path = tmp_path / "x.png"
    photo().save(str(path), exif=bad_pictures.exif(6))
    path.write_bytes(path.read_bytes()[:2000])
    for decode in ("exact",) + SCALED:
        with pytest.raises(folder.BadFile, match="truncated|broken PNG file"):
            images.load(str(path), (8, 8), decode, True)


# ------------------------------------------------------------------------------------------------------ containment

@pytest.fixture
def linked(tmp_path):
    """A folder of links. The files beside the folder must not be opened through them."""
    root, outside = tmp_path / "root", tmp_path / "root-beside"      # its name begins like the root's
    for each in (root, outside, root / "class"):
        each.mkdir()
    for place in (root / "inside.jpg", outside / "outside.jpg"):
        photo().save(str(place))
    (root / "class" / "within.jpg").symlink_to("../inside.jpg")
    (root / "class" / "out.jpg").symlink_to("../../root-beside/outside.jpg")
    (root / "class" / "absolute.jpg").symlink_to(str(outside / "outside.jpg"))
    (root / "class" / "twice.jpg").symlink_to("out.jpg")
    (root / "folder").symlink_to(str(outside))
    return root


def opens(root, path, follow_links=False):
    try:
        return bool(images.load(folder.resolve(str(root), path, follow_links), (8, 8), "fast"))
    except folder.BadFile as error:
        assert str(error) == folder.LINK_OUT
        return False


OUT = ["class/out.jpg", "class/absolute.jpg", "class/twice.jpg", "folder/outside.jpg"]


def test_a_link_that_leads_out_is_not_followed(linked):
    assert opens(linked, "inside.jpg") and opens(linked, "class/within.jpg")
    assert [path for path in OUT if opens(linked, path)] == []


def test_a_link_is_followed_if_the_job_wants_it(linked):
    assert [path for path in OUT if opens(linked, path)] == []
    assert [path for path in OUT if opens(linked, path, follow_links=True)] == OUT


def test_another_folder_is_not_taken_for_one_whose_files_are_gone(linked, tmp_path):
    folder.check_root(str(linked), ("gone.jpg", "inside.jpg"))
    folder.check_root(str(linked), ())
    with pytest.raises(ConfigError, match="is not the dataset's folder: of 2 files .* such as 'gone.jpg', none exists"):
        folder.check_root(str(tmp_path), ("gone.jpg", "too.jpg"))


def test_an_orientation_in_xmp_data_is_ignored(tmp_path):
    """A JPEG without EXIF data whose XMP data gives an orientation, which Pillow 8 does not read."""
    packet = (b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
              b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="3"/></rdf:RDF>'
              b'</x:xmpmeta>')
    FILES["rgb.jpg"](str(tmp_path / "plain.jpg"))
    plain = (tmp_path / "plain.jpg").read_bytes()
    segment = b"http://ns.adobe.com/xap/1.0/\0" + packet
    (tmp_path / "xmp.jpg").write_bytes(plain[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment
                                       + plain[2:])
    for decode in ("exact",) + SCALED:
        assert images.load(str(tmp_path / "xmp.jpg"), (8, 8), decode, True).tobytes() == images.load(
            str(tmp_path / "plain.jpg"), (8, 8), decode, True).tobytes()


def test_the_root_may_be_a_link_and_lead_elsewhere_later(linked, tmp_path):
    root = tmp_path / "current"
    root.symlink_to(str(linked))
    assert opens(root, "inside.jpg") and opens(root, "class/within.jpg") and not opens(root, "class/out.jpg")
    root.unlink()
    root.symlink_to(str(tmp_path / "root-beside"))
    assert opens(root, "outside.jpg")


def test_the_root_may_be_relative_or_the_root_of_all(linked, monkeypatch):
    monkeypatch.chdir(str(linked))
    assert opens(".", "inside.jpg") and not opens("class", "within.jpg")
    assert opens("/", str(linked)[1:] + "/class/out.jpg")


def test_containment_without_proc(linked, monkeypatch):
    def readlink(path):
        raise FileNotFoundError(errno.ENOENT, "no /proc")

    real = os.readlink
    monkeypatch.setattr(folder.os, "readlink",
                        lambda path, **more: readlink(path) if b"/proc/" in os.fsencode(path) else real(path, **more))
    assert opens(linked, "class/within.jpg")
    assert [path for path in OUT if opens(linked, path)] == []


def test_pil_opens_the_path_of_a_sample(tmp_path):
    """A user's generator may do so, also with a Pillow that takes no os.PathLike."""
    FILES["rgb.jpg"](str(tmp_path / "a.jpg"))
    with Image.open(folder.resolve(str(tmp_path), "a.jpg")) as image:
        assert image.format == "JPEG"

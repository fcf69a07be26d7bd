import re

import numpy as np
import pytest

from stoker.pipeline.arrays import ArraySpec
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import FORMER, JobOptions, StreamOptions, check_address
from stoker.pipeline.plan import fingerprint


def test_the_defaults_are_valid():
    assert JobOptions().arrays == (ArraySpec("images", "uint8", (64, 64, 3)), ArraySpec("labels", "int32", (1,)))
    assert StreamOptions().audit is None


@pytest.mark.parametrize("options, sentence", [
    ({"generator": "nothing"}, "generator must be one of numerical, image, augmented, or your own as module:function, "
                               "not 'nothing'"),
    ({"generator": "mine:"}, "not 'mine:'"),
    ({"generator": ":f"}, "not ':f'"),
    ({"generator": len}, "not <built-in function len>"),
    ({"generator": None}, "not None"),
    ({"image_size": 64}, "image_size must be (height, width), not 64"),
    ({"image_size": (1, 2, 3)}, "image_size must be (height, width), not (1, 2, 3)"),
    ({"image_size": (0, 64)}, "image height must be a whole number from 1 to 16384, not 0"),
    ({"image_size": (64, 6.5)}, "image width must be a whole number from 1 to 16384, not 6.5"),
    ({"batch_size": 0}, "batch_size must be a whole number from 1 to 1048576, not 0"),
    ({"batch_size": True}, "batch_size must be a whole number from 1 to 1048576, not True"),
    ({"batch_size": "32"}, "batch_size must be a whole number from 1 to 1048576, not '32'"),
    ({"seed": 1 << 63}, "seed must be a whole number from -4611686018427387904 to 4611686018427387904, "
                        "not 9223372036854775808"),
    ({"decode": "slow"}, "decode must be one of exact, fast, fastest, sampled, not 'slow'"),
    ({"on_bad_image": "ignore"}, "on_bad_image must be one of skip, replace, raise, not 'ignore'"),
    ({"exif_rotate": 1}, "exif_rotate must be True or False, not 1"),
    ({"truncated": True}, "truncated must be one of bad, use, not True"),
    ({"max_pixels": 0}, "max_pixels must be a whole number from 1 to 1099511627776, not 0"),
    ({"max_pixels": 1e9}, "max_pixels must be a whole number from 1 to 1099511627776, not 1000000000.0"),
    ({"max_pixels": None}, "max_pixels must be a whole number from 1 to 1099511627776, not None"),
    ({"max_text_mb": 0.5}, "max_text_mb must be a whole number from 1 to 1024, not 0.5"),
    ({"max_text_mb": 1025}, "max_text_mb must be a whole number from 1 to 1024, not 1025"),
    ({"batch_size": 2048, "rows": 1024}, "rows times batch_size must be at most 1048576, not 1024"),
])
def test_invalid_job_options(options, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence) + "$"):
        JobOptions(**options)


@pytest.mark.parametrize("options, sentence", [
    ({"bind": "5555"}, "bind must look like tcp://0.0.0.0:5555, with a port from 1 to 65535 or *, not '5555'"),
    ({"bind": "tcp://0.0.0.0"}, "not 'tcp://0.0.0.0'"),
    ({"bind": "tcp://0.0.0.0:0"}, "not 'tcp://0.0.0.0:0'"),
    ({"bind": "tcp://0.0.0.0:65536"}, "not 'tcp://0.0.0.0:65536'"),
    ({"bind": "tcp://:5555"}, "not 'tcp://:5555'"),
    ({"bind": "ipc:///tmp/stoker:5555"}, "not 'ipc:///tmp/stoker:5555'"),
    ({"bind": 5555}, "not 5555"),
    ({"prefetch_mb": 0}, "prefetch_mb must be a number of megabytes above 0, not 0"),
    ({"prefetch_mb": float("nan")}, "prefetch_mb must be a number of megabytes above 0, not nan"),
    ({"bind": "tcp://*:5555"}, "bind tcp://*:5555 is open to other hosts: make keys (stoker-keys DIR) and give "
                               "keys='DIR' (--keys DIR), or insecure=True (--insecure) on a network that you trust"),
    ({"bind": "tcp://0.0.0.0:5555"}, "on a network that you trust"),
    ({"bind": "tcp://[::]:5555"}, "on a network that you trust"),
    ({"bind": "tcp://192.168.0.1:5555"}, "on a network that you trust"),
    ({"bind": "tcp://127.0.0.1.example.org:5555"}, "on a network that you trust"),
    ({"keys": ""}, "keys must be the folder that stoker-keys made, not ''"),
    ({"keys": 5}, "keys must be the folder that stoker-keys made, not 5"),
    ({"keys": "keys", "insecure": True}, "keys and insecure exclude each other: with keys, only workers that have "
                                         "one may connect"),
    ({"prefetch": 0}, "prefetch must be a whole number from 1 to 65536, not 0"),
    ({"lease_s": 0.05}, "lease_s must be at least 0.1 seconds, not 0.05"),
    ({"lease_s": float("nan")}, "lease_s must be at least 0.1 seconds, not nan"),
    ({"lease_s": 10 ** 400}, "lease_s must be at least 0.1 seconds, and less than 1e308"),
    ({"stall_s": -10 ** 5000}, "stall_s must be at least 0.1 seconds, not a number so large"),
    ({"prefetch_mb": 10 ** 400}, "prefetch_mb must be a number of megabytes above 0, and less than 1e308"),
    ({"prefetch": 10 ** 5000}, "prefetch must be a whole number from 1 to 65536, not a number so large"),
    ({"worker_timeout_s": True}, "worker_timeout_s must be at least 0.1 seconds, not True"),
    ({"stall_s": "10"}, "stall_s must be at least 0.1 seconds, not '10'"),
    ({"audit": "no/such/audit"}, "audit must be a file in a folder that exists, not 'no/such/audit'"),
    ({"bad_samples": "no/such/bad"}, "bad_samples must be a file in a folder that exists, not 'no/such/bad'"),
])
def test_invalid_stream_options(options, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence) + "$"):
        StreamOptions(**options)


def test_an_address_to_connect_to_has_a_port():
    check_address("connect", "tcp://trainer:5555")
    with pytest.raises(ConfigError, match=re.escape("connect must look like tcp://HOST:5555, with a port from 1 to "
                                                    "65535, not 'tcp://trainer:*'") + "$"):
        check_address("connect", "tcp://trainer:*")


@pytest.mark.parametrize("options", [{"bind": "tcp://*:5555", "insecure": True}, {"bind": "tcp://[::1]:*"},
                                     {"bind": "tcp://0.0.0.0:5555", "keys": "keys"}, {"bind": "tcp://localhost:*"},
                                     {"lease_s": 1},
                                     {"bind": "tcp://127.9.9.9:1"}, {"keys": "keys"}, {"insecure": True},
                                     {"worker_timeout_s": float("inf")}, {"audit": "audit.jsonl"}])
def test_valid_stream_options(options):
    StreamOptions(**options)


def test_a_numerical_job_has_features():
    assert JobOptions("numerical").arrays == (ArraySpec("features", "float32", (10,)),
                                              ArraySpec("labels", "int32", (1,)))


def test_a_user_s_own_generator_makes_images():
    assert JobOptions("my.module:make", (32, 48)).arrays[0] == ArraySpec("images", "uint8", (32, 48, 3))


def test_there_are_several_heartbeats_before_a_lease_ends():
    for lease_s in (0.1, 1.0, 5.0, 600.0):
        options = StreamOptions(lease_s=lease_s)
        assert 0 < options.heartbeat_s <= min(0.5, lease_s / 4)
        assert options.heartbeat_of(0) == options.heartbeat_of(2000) == options.heartbeat_s
        assert options.heartbeat_s <= options.heartbeat_of(4000) <= options.heartbeat_of(100000)
        assert options.heartbeat_of(100000) == min(25.0, lease_s / 4)


def test_numpy_s_integers_become_python_s():
    made = JobOptions(image_size=(np.int64(3), np.int32(4)), batch_size=np.int64(5), seed=np.uint8(6))
    assert [type(value) for value in made.image_size + (made.batch_size, made.seed)] == [int] * 4
    assert type(StreamOptions(prefetch=np.int64(3)).prefetch) is int


def test_options_are_frozen():
    with pytest.raises(AttributeError):
        JobOptions().seed = 1


def test_the_fingerprint_contains_the_options_that_shape_the_stream_and_no_others():
    job = JobOptions()
    base = fingerprint(job, "folder", 0.1)
    for change in ({"generator": "augmented"}, {"image_size": (64, 65)}, {"batch_size": 33}, {"seed": 1},
                   {"decode": "exact"}, {"on_bad_image": "replace"}, {"exif_rotate": True},
                   {"follow_links": True}, {"truncated": "use"}, {"max_pixels": 10 ** 9}, {"max_text_mb": 2},
                   {"max_file_mb": 256}, {"formats": ("jpeg",)}):
        assert fingerprint(JobOptions(**change), "folder", 0.1) != base
    assert fingerprint(job, "other", 0.1) != base != fingerprint(job, "folder", 0.2)
    complete = fingerprint(JobOptions(on_bad_image="replace", exif_rotate=True, follow_links=True, truncated="use",
                                      max_pixels=1, max_file_mb=1, max_text_mb=2), "folder", 0.1)
    own = {"labels", "declared", "rows", "may_skip", "augment"}       # in Run.fingerprint, if they are used
    assert set(complete) == set(JobOptions.__dataclass_fields__) - own | {"plan", "dataset", "validation_split"}


def test_a_run_that_ended_at_a_bad_image_can_continue_and_skip_it():
    skip, replace, error = [fingerprint(JobOptions(on_bad_image=policy), "folder", 0.1)
                            for policy in ("skip", "replace", "raise")]
    assert skip == error != replace


def test_a_checkpoint_from_before_there_were_options_for_bad_images_is_continued():
    newer = {"on_bad_image", "exif_rotate", "truncated", "max_pixels", "max_file_mb", "max_text_mb", "formats"}
    assert not newer & set(fingerprint(JobOptions(**FORMER), "folder", 0.1))


def test_an_option_whose_default_has_changed_is_recorded_with_the_new_one():
    found = fingerprint(JobOptions(), "folder", 0.1)
    assert {name: found[name] for name in FORMER} == dict(
        {name: getattr(JobOptions, name) for name in FORMER}, formats="default")
    assert fingerprint(JobOptions(formats=("png", "jpeg")), "folder", 0.1)["formats"] == ["jpeg", "png"]


def test_memory_bounds_the_prefetch_of_large_batches():
    job = JobOptions(image_size=(1024, 1024), batch_size=32)          # 96 MB
    assert StreamOptions(prefetch=32, prefetch_mb=1024).prefetch_of(job) == 10
    assert StreamOptions(prefetch=4, prefetch_mb=1024).prefetch_of(job) == 4
    with pytest.raises(ConfigError, match="prefetch_mb 90 is too small: one batch takes 96 MB"):
        StreamOptions(prefetch_mb=90).prefetch_of(job)

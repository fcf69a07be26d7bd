"""The wire format, byte for byte, and the errors of everything else that may arrive."""

import tracemalloc
from dataclasses import replace

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipeline.arrays import ITEM_BYTES, ArraySpec, UpTo, framed
from stoker.pipeline.errors import ProtocolError, VersionMismatch
from stoker.pipeline.protocol import codec, unpacking
from stoker.pipeline.protocol.batch_arrays import check_arrays
from stoker.pipeline.protocol.messages import MAX_REASON, MAX_SKIPPED_PATH, MAX_TEXT, PROTOCOL_VERSION, Alive, Failed
from stoker.pipeline.protocol.messages import Hello, Job, Lease, Leaving, Need, Produced, Ready, Refused, Remark
from stoker.pipeline.protocol.messages import Returned, Revoked, Room, Sample, Skipped, Stop, Timings, Unfit, Welcome

ODD_NAME = "caf\u00e9/\udcff\u6f22.jpg"   # a file name of any bytes, as os.listdir gives it
SPECS = (ArraySpec("images", "uint8", (2, 2, 3)), ArraySpec("labels", "int32", (1,)))
JOB = Job("image", SPECS, 4, -7, "fast", "/data/" + ODD_NAME, True)
OWN_SPECS = (ArraySpec("boxes", "float32", (UpTo(20, pad=-1), 4)), ArraySpec("is face", "bool", ()),
             ArraySpec("depth", "uint16", (UpTo(3), UpTo(2))))
OWN_JOB = Job("own:f", OWN_SPECS, 4, 0, "fast", "", columns=("path", "x"), rows=3, may_skip=True, augment="own:g",
              image_size=(2, 3), max_pixels=5000, max_file_mb=9, max_text_mb=2, truncated="use",
              picture_cpu_s=2.5, picture_memory_mb=300, formats=("jpeg", "png"))
ARRAYS = (np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3), np.array([[1], [-2]], np.int32))
INDICES = (5, 6, 9)
V = PROTOCOL_VERSION
TIMES = [0.0] * 5
PRODUCED = Produced("r1", 7, 12, 2, (Skipped(6, "broken " + ODD_NAME, "a/b.png", True),), 0.25, ARRAYS,
                    Timings(0.03125, 0.125, 0.0625, 0.5, 0.25), (2, 1), 3, True, (Remark("cut", ODD_NAME),))

FROM_WORKER = [Hello("host/2", 4711, "python 3.13.0", 2, "SIGKILL", 16, "", 3), PRODUCED,
               Failed("r1", 7, 12, "ValueError: x", "tb\n", ODD_NAME, (Skipped(5, "no", "b", deadly=True),), True,
                      True),
               Returned("r1", 7), Room("r1", 1), Leaving("r1", -1, "asked to stop"), Alive("r1"), Ready("r1"),
               Unfit("r1", "no folder", "tb\n")]
FROM_TRAINER = [Welcome("r1", JOB, 0.5), Welcome("r1", OWN_JOB, 0.5), Refused("no", False), Alive("r1"), Revoked(7),
                Stop("done"), Need(5, 0.25),
                Lease(7, 12, 1, True, (Sample(5, ODD_NAME, 3), Sample(6, "b.jpg", 0)), (Sample(1, "c", 0),), True,
                      True),
                Lease(8, 13, 1, True, (Sample(5, "", -1, b"\x92\xa1a\x07", 2, (Sample(6, "", -1, b"\xc0"),)),),
                      known=(Skipped(5, "kills " + ODD_NAME, deadly=True),), wanted=4, slack_s=0.5)]

GOLDEN = [     # of FROM_WORKER + FROM_TRAINER
    ("Hello", "9309a568656c6c6f98a6686f73742f32cd1267ad707974686f6e20332e31332e3002a75349474b494c4c10a003"),
    ("Produced", (
        "9309a870726f64756365649ca27231070c02919506b562726f6b656e20636166c3a92fffe6bca22e6a7067a7612f622e"
        "706e67c3c2cb3fd000000000000095cb3fa0000000000000cb3fc0000000000000cb3fb0000000000000cb3fe0000000"
        "000000cb3fd000000000000092020103c39192a3637574ae636166c3a92fffe6bca22e6a7067ff")),
    ("Failed", (
        "9309a66661696c656499a27231070cad56616c75654572726f723a2078a374620aae636166c3a92fffe6bca22e6a7067"
        "919505a26e6fa162c2c3c3c3")),
    ("Returned", "9309a872657475726e656492a2723107"),
    ("Room", "9309a4726f6f6d92a2723101"),
    ("Leaving", "9309a76c656176696e6793a27231ffad61736b656420746f2073746f70"),
    ("Alive", "9309a5616c69766591a27231"),
    ("Ready", "9309a5726561647993a27231a0a0"),
    ("Unfit", "9309a5756e66697493a27231a96e6f20666f6c646572a374620a"),
    ("Welcome", (
        "9309a777656c636f6d6593a27231dc0016a5696d6167659293a6696d61676573a575696e74389302020393a66c616265"
        "6c73a5696e743332910104f9a466617374b42f646174612f636166c3a92fffe6bca22e6a7067c3c2909240409001c2a0"
        "a0ce03d09000cc8001a3626164cb00000000000000000090cb3fe0000000000000")),
    ("Welcome", (
        "9309a777656c636f6d6593a27231dc0016a56f776e3a669393a5626f786573a7666c6f61743332929214ff0493a76973"
        "2066616365a4626f6f6c9093a56465707468a675696e743136929203009202000400a466617374a0c2c29092020392a4"
        "70617468a17803c3a56f776e3a67a0cd13880902a3757365cb4004000000000000cd012c92a46a706567a3706e67cb3f"
        "e0000000000000")),
    ("Refused", "9309a77265667573656492a26e6fc2"),
    ("Alive", "9309a5616c69766591a27231"),
    ("Revoked", "9309a77265766f6b65649107"),
    ("Stop", "9309a473746f7091a4646f6e65"),
    ("Need", "9309a46e6565649205cb3fd0000000000000"),
    ("Lease", (
        "9309a56c656173659c070c01c39692050692ae636166c3a92fffe6bca22e6a7067a5622e6a7067920300909090969101"
        "91a16390909090c3c39000cb0000000000000000ff")),
    ("Lease", (
        "9309a56c656173659c080d01c39691059091ff91c40492a161079102919691069091ff91c401c0909090c2c2919505b4"
        "6b696c6c7320636166c3a92fffe6bca22e6a7067a0c2c304cb3fe0000000000000ff")),
]


def frames_of(message):
    return [bytes(frame) for frame in codec.encode(message)]


def decode(message, frames):
    return (codec.decode_from_worker if type(message) in map(type, FROM_WORKER) else codec.decode_from_trainer)(frames)


def header(*values):
    return msgpack.packb(list(values), use_bin_type=True, unicode_errors="surrogateescape")


def produced(**changed):
    """The frames of a batch's message, with these fields."""
    fields = dict(run="r", lease=0, position=0, count=1, skipped=[], produce_s=0.0, timings=TIMES, rows=[], missing=0,
                  aligned=True, remarks=[], slot=-1)
    return [header(V, "produced", list(dict(fields, **changed).values()))]


def name_of(message):
    return type(message).__name__


# ------------------------------------------------------------------------------------------------------- round trip

@pytest.mark.parametrize("message, golden", list(zip(FROM_WORKER + FROM_TRAINER, GOLDEN)))
def test_golden_bytes(message, golden):
    assert (name_of(message), frames_of(message)[0].hex()) == golden


def test_arrays_travel_as_their_bytes():
    assert frames_of(PRODUCED)[1:] == [bytes(range(24)), b"\1\0\0\0\xfe\xff\xff\xff"]


def test_encoding_does_not_copy_arrays():
    frames = codec.encode(PRODUCED)
    assert np.shares_memory(np.frombuffer(frames[1], np.uint8), ARRAYS[0])


@pytest.mark.parametrize("message", FROM_WORKER[:1] + FROM_WORKER[2:] + FROM_TRAINER, ids=name_of)
@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_a_message_survives_the_trip(message, wrap):
    assert decode(message, [wrap(frame) for frame in frames_of(message)]) == message


@pytest.mark.parametrize("wrap", [bytes, memoryview])
def test_a_batch_survives_the_trip(wrap):
    message = replace(PRODUCED, rows=(), missing=0)
    received = codec.decode_from_worker([wrap(frame) for frame in frames_of(message)])
    arrays = check_arrays(received, JOB, INDICES)
    assert replace(received, arrays=()) == replace(message, arrays=())
    for array, sent in zip(arrays, ARRAYS):
        assert array.dtype == sent.dtype and array.shape == sent.shape and (array == sent).all()
        assert not array.flags.writeable


SMALL = st.integers(0, 1 << 20)
BIG = st.integers(0, (1 << 63) - 1)
# All that UTF-8 with surrogate escapes can express. Surrogates come from TEXT's second part. Not st.characters: it
# would first compute a table of Unicode, which takes seconds in a fresh clone.
CHARACTERS = st.one_of(st.integers(0, 0xD7FF), st.integers(0xE000, 0x10FFFF)).map(chr)
TEXT = st.one_of(st.text(CHARACTERS, max_size=50),
                 st.binary(max_size=50).map(lambda raw: raw.decode("utf-8", "surrogateescape")))
RUN = st.text("0123456789abcdef", min_size=1, max_size=64)
NAME = TEXT.filter(bool)
SECONDS = st.floats(0, 1e6)
SPEC = st.builds(ArraySpec, NAME, st.sampled_from(sorted(ITEM_BYTES)), st.lists(
    st.one_of(st.integers(1, 9), st.builds(UpTo, st.integers(1, 9), st.one_of(
        st.booleans(), st.integers(-9, 9), st.floats(-1, 1)))),
    max_size=4).map(tuple))
PLAIN = st.tuples(BIG, TEXT, st.integers(-1, (1 << 31) - 1)).map(lambda fields: Sample(*fields))
SAMPLE = st.one_of(PLAIN, st.builds(
    Sample, BIG, TEXT, st.integers(-1, (1 << 31) - 1), st.binary(max_size=20), BIG, st.lists(
        st.builds(Sample, BIG, TEXT, st.just(-1), st.binary(max_size=20), BIG, st.just(())), max_size=2).map(tuple)))


def tuples(items):
    return st.lists(items, max_size=5).map(tuple)


ANY_FROM_WORKER = st.one_of(
    st.builds(Hello, NAME, BIG, TEXT, st.integers(0, 1024), TEXT, st.integers(1, 1 << 16), TEXT, st.integers(1, 64)),
    st.builds(Room, RUN, st.integers(0, 1024)),
    st.builds(Produced, RUN, BIG, BIG, SMALL, tuples(st.builds(Skipped, BIG, TEXT, TEXT, st.booleans())),
              SECONDS, st.just(()), st.builds(Timings, *[SECONDS] * 5), tuples(SMALL), SMALL,
              st.booleans()),
    st.builds(Failed, RUN, BIG, BIG, TEXT, TEXT, TEXT), st.builds(Returned, RUN, BIG),
    st.builds(Leaving, RUN, st.integers(-1, 99), TEXT), st.builds(Ready, RUN),
    st.builds(Unfit, st.one_of(RUN, st.just("")), TEXT, TEXT),
    st.builds(Alive, RUN))
ANY_FROM_TRAINER = st.one_of(
    st.builds(Welcome, RUN, st.builds(Job, NAME, tuples(SPEC), st.integers(1, 1 << 20),
                                      st.integers(-(1 << 63), (1 << 63) - 1), TEXT, TEXT, st.booleans(),
                                      image_size=st.just((3, 4)), columns=tuples(TEXT), rows=st.integers(1, 9),
                                      may_skip=st.booleans(), augment=TEXT, trainer_root=TEXT), SECONDS),
    st.builds(Refused, TEXT, st.booleans()), st.builds(Revoked, BIG), st.builds(Stop, TEXT), st.builds(Alive, RUN),
    st.builds(Need, SMALL, SECONDS),
    st.builds(Lease, BIG, BIG, BIG, st.booleans(), tuples(SAMPLE), tuples(SAMPLE), st.booleans(), wanted=SMALL,
              slack_s=SECONDS))


@given(ANY_FROM_WORKER)
def test_any_message_of_a_worker_survives_the_trip(message):
    assert codec.decode_from_worker(codec.encode(message)) == message


@given(ANY_FROM_TRAINER)
def test_any_message_of_the_trainer_survives_the_trip(message):
    decoded = codec.decode_from_trainer(codec.encode(message))
    assert decoded == message
    assert hash(decoded) == hash(message)    # lists have become tuples, all the way down


def test_records_come_back_as_records():
    lease = decode(FROM_TRAINER[-2], frames_of(FROM_TRAINER[-2]))
    assert lease.samples[0].path == ODD_NAME and isinstance(lease.samples[0], Sample)
    lease = decode(FROM_TRAINER[-1], frames_of(FROM_TRAINER[-1]))
    assert isinstance(lease.samples[0].partners[0], Sample) and lease.samples[0].partners[0].name == "sample 6"
    assert decode(FROM_TRAINER[0], frames_of(FROM_TRAINER[0])).job.arrays[0].sample_bytes == 12


def test_a_batch_without_samples_survives_the_trip():
    empty = tuple(np.empty((0,) + spec.shape, spec.dtype) for spec in SPECS)
    skipped = tuple(Skipped(index, "bad") for index in INDICES)
    frames = frames_of(Produced("r1", 1, 2, 0, skipped, 0.0, empty))
    assert frames[1:] == [b"", b""]
    arrays = check_arrays(codec.decode_from_worker([memoryview(frame) for frame in frames]), JOB, INDICES)
    assert [(array.shape, array.dtype) for array in arrays] == [((0, 2, 2, 3), np.uint8), ((0, 1), np.int32)]


# ----------------------------------------------------------------------------------------------- malformed messages

@pytest.mark.parametrize("frames, sentence", [
    ([], "the message is empty"),
    ([b""], "the header is not valid msgpack"),
    ([b"\xc1"], "the header is not valid msgpack"),
    ([b"\x93\x02"], "the header is not valid msgpack"),
    ([header(V, "alive", ["r"]) + b"\0"], "the header is not valid msgpack"),
    ([b"\xdd\xff\xff\xff\xff"], "the header is not valid msgpack"),              # a list of 4 billion
    ([b"\xdb\xff\xff\xff\xff" + b"x" * 20], "the header is not valid msgpack"),  # a text of 4 GB
    ([b"\xc7\x04\xff1234"], "the header is not"),                          # a broken timestamp
    ([b"\x91" * 100000], "the header is not valid msgpack"),
    ([header("alive")], "the header is not \\[version, kind, fields\\]"),
    ([header(V, 2, [])], "the header is not \\[version"),
    ([header(V, b"alive", ["r"])], "the header is not \\[version"),
    ([header(V, "alive", {"run": "r"})], "the header is not \\[version"),
    ([msgpack.packb({"a": 1})], "the header is not \\[version"),
    ([header(V, "explode", [])], "the message is of unknown kind 'explode'"),
    ([header(V, "alive", [])], "alive has 0 fields instead of 1"),
    ([header(V, "alive", ["r", "s"])], "alive has 2 fields instead of 1"),
    ([header(V, "alive", ["r"]), b""], "alive has 1 frames behind the header instead of none"),
    ([header(V, "alive", [""])], "alive.run must be a text of 1 to 64 characters, not ''"),
    ([header(V, "alive", ["r" * 65])], "alive.run must be a text of 1 to 64 characters"),
    ([header(V, "alive", [b"r"])], "alive.run must be a text"),
    ([header(V, "alive", [None])], "alive.run must be a text .*, not None"),
    ([header(V, "hello", ["h", 1, "", -1, "", 1, "", 1])], "hello.capacity must be an integer in 0..1024, not -1"),
    ([header(V, "hello", ["h", True, "", 1, "", 1, "", 1])], "hello.pid must be an integer in .*, not True"),
    ([header(V, "hello", ["h", 1.0, "", 1, "", 1, "", 1])], "hello.pid must be an integer in .*, not 1.0"),
    ([header(V, "hello", ["h", 1, "", 1, "", 0, "", 1])], "hello.cores must be an integer in 1..65536, not 0"),
    ([header(V, "hello", ["h", 1, "", 1, "", 1, "", 65])], "hello.trainers must be an integer in 1..64, not 65"),
    ([header(V, "hello", ["h", 1, "", 1, "", 1, "", 0])], "hello.trainers must be an integer in 1..64, not 0"),
    ([header(V, "room", ["r", 10 ** 9])], "room.leases must be an integer in 0..1024"),
    ([header(V, "room", ["r", -1])], "room.leases must be an integer in 0..1024"),
    ([header(V, "leaving", ["r", -2, ""])], "leaving.lease must be an integer in -1.."),
    ([header(V, "failed", ["r", (1 << 64) - 1, 0, "", "", "", [], True, True])], "failed.lease must be an integer in"),
    ([header(V, "failed", ["r", 0, 0, "x" * 70000, "", "", [], True, True])], "failed.error must be a text of 0"),
    ([header(V, "failed", ["r", 0, 0, "", "", "", [[1, "", "", False, False]] * 2, True, True])],
     "failed.unreadable must be a list of at most 1"),
    (produced(produce_s=float("nan")), "seconds, not nan"),
    (produced(produce_s=float("inf")), "seconds, not inf"),
    (produced(produce_s=1), "produced.produce_s must be seconds, not 1"),
    (produced(timings=[0.0, 0.0, -1.0, 0.0, 0.0]), "produced.timings must be seconds, not -1.0"),
    (produced(timings=[0.0]), "timings must be a list of 5 fields"),
    (produced(skipped="no"), "skipped must be a list of at most"),
    (produced(skipped=[[1]]), "skipped must be a list of 5 fields"),
    (produced(skipped=[[1, 2, "", False, False]]), "skipped must be a text"),
    (produced(skipped=[[1, "x" * 301, "", False, False]]), "of 0 to 300"),
    (produced(skipped=[[1, "", "x" * 513, False, False]]), "of 0 to 512"),
    (produced(skipped=[[1, "", "", 0, False]]), "must be true or false"),
    (produced(skipped=[[1, "", "", False, None]]), "must be true or false"),
    (produced(rows=[-1]), "produced.rows must be an integer"),
    (produced(missing=-1), "produced.missing must be an integer"),
    (produced(aligned=1), "produced.aligned must be true or false"),
    (produced(remarks=[["new", ""]]), "produced.remarks must be one of cut, unscaled, not 'new'"),
    (produced(remarks=[[b"cut", ""]]), "must be one of cut, unscaled"),
    (produced(remarks=[["cut", "x" * 513]]), "of 0 to 512"),
    (produced(remarks=[["cut", ""]] * 3), "a list of at most 2"),
    ([header(V, "welcome", ["r", [], 0.5])], "the message is of unknown kind 'welcome'"),     # the trainer's
])
def test_malformed_messages_of_a_worker(frames, sentence):
    with pytest.raises(ProtocolError, match=sentence) as caught:
        codec.decode_from_worker(frames)
    assert not isinstance(caught.value, VersionMismatch)


@pytest.mark.parametrize("wanted, slack_s, sentence", [
    (-1, 0.0, "need.wanted must be an integer"), (1 << 40, 0.0, "need.wanted must be an integer"),
    (1, -1.0, "need.slack_s must be seconds"), (1, float("nan"), "need.slack_s must be seconds"),
    (1, float("inf"), "need.slack_s must be seconds"), (1, 1, "need.slack_s must be seconds")])
def test_a_need_that_is_none(wanted, slack_s, sentence):
    with pytest.raises(ProtocolError, match=sentence):
        codec.decode_from_trainer([header(V, "need", [wanted, slack_s])])


@pytest.mark.parametrize("job", [
    ["image", [], 4, 0, "fast"], ["image", [["a", "object", [1]]], 4, 0, "fast", ""],
    ["image", [["a", "uint8", [0]]], 4, 0, "fast", ""], ["image", [["a", "uint8", [1] * 9]], 4, 0, "fast", ""],
    ["image", [["a", ["uint8"], [1]]], 4, 0, "fast", ""], ["image", [], 0, 0, "fast", ""], {}, None])
def test_malformed_messages_of_the_trainer(job):
    with pytest.raises(ProtocolError, match="welcome.job must be "):
        codec.decode_from_trainer([header(V, "welcome", ["r", job, 0.5])])


@pytest.mark.parametrize("depth", [10, 400, 700, 900, 990, 1000, 1010, 1020, 2000, 100000])
def test_deep_nesting_is_a_protocol_error(depth):
    """msgpack reads deeper nesting than Python can print."""
    nested = b"\x91" * depth + b"\xc0"
    for frame in (b"\x93\x02\xa5alive\x91" + nested, b"\x93\x02" + nested + b"\x90",
                  b"\x93" + nested + b"\xa5alive\x90"):
        with pytest.raises(ProtocolError):
            codec.decode_from_worker([frame])


@pytest.mark.parametrize("spoilt", [b"", b"\xc1", b"\x81\x91\x01\x01", b"\xc7\x05\xff12345", b"\xd7\xff" + b"\xff" * 8],
                         ids=["cut off", "no type", "a list as key", "a broken timestamp", "a timestamp without end"])
def test_malformed_messages_leave_no_memory_behind(spoilt):
    """msgpack 1.0.5 never frees the lists inside of a value that it cannot unpack."""
    frame = b"\x91\xdc\x03\xe8" + b"\xcd\x12\x34" * 999 + spoilt

    def send(times):
        for _ in range(times):
            with pytest.raises(ProtocolError):
                codec.decode_from_worker([frame])
            with pytest.raises(ProtocolError):
                codec.decode_from_trainer([frame])
    send(3)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        send(30)
        assert tracemalloc.get_traced_memory()[0] - before < 50000     # one list has 8,000 bytes
    finally:
        tracemalloc.stop()


def test_a_message_that_only_seems_to_hold_a_timestamp_is_read():
    message = replace(FROM_WORKER[2], position=0xD6FF, sample="\udcd6\udcff.jpg")
    assert codec.decode_from_worker(frames_of(message)) == message


def test_a_header_over_the_limit_is_not_unpacked():
    with pytest.raises(ProtocolError, match="the header has 16777217 bytes"):
        codec.decode_from_worker([memoryview(bytes(codec.MAX_HEADER_BYTES + 1))])


@pytest.mark.parametrize("message", FROM_WORKER + FROM_TRAINER, ids=name_of)
def test_every_truncation_is_a_protocol_error(message):
    frame = frames_of(message)[0]
    for length in range(len(frame)):
        with pytest.raises(ProtocolError):
            decode(message, [frame[:length]])


@pytest.mark.parametrize("message", FROM_WORKER + FROM_TRAINER, ids=name_of)
def test_every_flipped_bit_gives_a_message_or_a_protocol_error(message):
    frame = frames_of(message)[0]
    for place in range(len(frame)):
        for bit in range(8):
            broken = bytearray(frame)
            broken[place] ^= 1 << bit
            for decode_any in (codec.decode_from_worker, codec.decode_from_trainer):
                try:
                    codec.encode(decode_any([bytes(broken)]))
                except ProtocolError:
                    pass


VALUES = st.recursive(st.one_of(st.none(), st.booleans(), st.integers(-(1 << 63), (1 << 64) - 1), st.floats(),
                                st.text(CHARACTERS, max_size=9),
                                st.binary(max_size=9)),
                      lambda inner: st.one_of(st.lists(inner, max_size=6),
                                              st.dictionaries(st.text("abc", max_size=2), inner, max_size=3)),
                      max_leaves=12)
KINDS = ["hello", "produced", "failed", "returned", "leaving", "alive", "welcome", "refused", "lease", "revoked",
         "stop", "room", "need"]


@given(st.sampled_from(KINDS), st.one_of(VALUES, st.lists(VALUES, min_size=1, max_size=6)),
       st.lists(st.binary(), max_size=2))
def test_any_fields_give_a_message_or_a_protocol_error(kind, fields, more):
    for decode_any in (codec.decode_from_worker, codec.decode_from_trainer):
        try:
            decode_any([msgpack.packb([PROTOCOL_VERSION, kind, fields], use_bin_type=True)] + more)
        except ProtocolError:
            pass


@given(st.lists(st.binary(max_size=40), max_size=3))
def test_any_bytes_give_a_message_or_a_protocol_error(frames):
    for decode_any in (codec.decode_from_worker, codec.decode_from_trainer):
        try:
            decode_any(frames)
        except ProtocolError:
            pass


# ------------------------------------------------------------------------------------------------- other versions

@pytest.mark.parametrize("version, shown", [(1, "1"), (0, "0"), ("1", "'\\?'"), (None, "'\\?'"), ([], "'\\?'")])
def test_another_version_is_recognized(version, shown):
    for kind, fields in (("alive", ["r"]), ("produced", "whatever it is by then".split()), ("from the future", []),
                         ("hello", ["host/0", 1, "python 4", 2, ""])):
        with pytest.raises(VersionMismatch, match="speaks protocol version %s, this side speaks %d" % (shown, V)):
            codec.decode_from_worker([header(version, kind, fields), b"more"])


def test_refused_is_read_in_any_version():
    assert codec.decode_from_trainer([header(V + 1, "refused", ["too old", True])]) == Refused("too old", True)
    with pytest.raises(VersionMismatch):
        codec.decode_from_trainer([header(V + 1, "stop", ["over"])])


# -------------------------------------------------------------------------------------------------------- arrays

def received(count=2, skipped=((6, "bad"),), frames=None):
    frames = [array.tobytes() for array in ARRAYS] if frames is None else frames
    return Produced("r1", 7, 12, count, tuple(Skipped(*skip) for skip in skipped), 0.0, tuple(frames))


@pytest.mark.parametrize("wrong, sentence", [
    ({"count": 3}, "produced.count is 3 with 1 skipped: the lease has 3 samples"),
    ({"count": 1}, "produced.count is 1 with 1 skipped"),
    ({"count": 0}, "produced.count is 0 with 1 skipped"),
    ({"skipped": ()}, "produced.count is 2 with 0 skipped"),
    ({"skipped": ((6, ""), (6, "")), "count": 1}, "names samples that the lease does not have, or one of them twice"),
    ({"skipped": ((7, ""),)}, "names samples that the lease does not have"),
    ({"frames": []}, "produced has 0 arrays, the job 2"),
    ({"frames": [bytes(24)]}, "produced has 1 arrays, the job 2"),
    ({"frames": [bytes(24), bytes(8), b""]}, "produced has 3 arrays, the job 2"),
    ({"frames": [bytes(23), bytes(8)]}, "produced.images has 23 bytes instead of 24"),
    ({"frames": [bytes(25), bytes(8)]}, "produced.images has 25 bytes instead of 24"),
    ({"frames": [bytes(36), bytes(8)]}, "produced.images has 36 bytes instead of 24"),
    ({"frames": [bytes(24), bytes(12)]}, "produced.labels has 12 bytes instead of 8"),
    ({"frames": [bytes(24), b""]}, "produced.labels has 0 bytes instead of 8"),
    ({"frames": [bytes(8), bytes(24)]}, "produced.images has 8 bytes instead of 24"),
    ({"count": 0, "skipped": ((5, ""), (6, ""), (9, "")), "frames": [b"", b"x"]},
     "produced.labels has 1 bytes instead of 0"),
])
def test_a_batch_that_does_not_fit_the_lease(wrong, sentence):
    check_arrays(received(), JOB, INDICES)
    with pytest.raises(ProtocolError, match=sentence):
        check_arrays(received(**wrong), JOB, INDICES)


@pytest.mark.parametrize("skipped, count", [((), 2), (("5",), 2), (("5", "1"), 2), (("5", "1", "2"), 1)])
def test_a_batch_may_contain_replacements(skipped, count):
    frames = [array[:count].tobytes() for array in ARRAYS]
    got = received(count, [(int(index), "bad") for index in skipped], frames)
    assert len(check_arrays(got, JOB, (5, 6), (1, 2))[0]) == count


@pytest.mark.parametrize("skipped, count, sentence", [
    ((), 1, "count is 1 with 0 skipped: the lease has 2 samples and 2 replacements"),
    ((1,), 1, "count is 1 with 1 skipped"), ((5,), 1, "count is 1 with 1 skipped"),
    ((5, 1, 2), 2, "count is 2 with 3 skipped"),
    ((5, 6, 1), 2, "count is 2 with 3 skipped"), ((9,), 2, "names samples that the lease does not have"),
    ((1, 1), 2, "or one of them twice"),
])
def test_a_batch_with_replacements_that_does_not_add_up(skipped, count, sentence):
    frames = [array[:count].tobytes() for array in ARRAYS]
    with pytest.raises(ProtocolError, match=sentence):
        check_arrays(received(count, [(index, "bad") for index in skipped], frames), JOB, (5, 6), (1, 2))


def own(count=3, skipped=(), rows=(), missing=0, sizes=(0, 2, 1), depth=((1, 1), (3, 2), (0, 0)), **frames):
    """A batch for OWN_JOB, and a lease of the samples 5, 6, 9."""
    wanted = {"boxes": max(sizes) * 16 * count, "face": count, "depth": 2 * count * 6,
              "boxes_sizes": np.array(sizes, "<i4").tobytes(), "depth_sizes": np.array(depth, "<i4").tobytes()}
    wanted.update(frames)
    return Produced("r1", 7, 12, count, tuple(Skipped(*skip) for skip in skipped), 0.0, tuple(
        bytes(frame) for frame in wanted.values()), rows=rows, missing=missing)


def test_sides_that_differ_come_padded_with_their_sizes():
    views = check_arrays(own(), OWN_JOB, INDICES)
    assert [(view.shape, view.dtype.name) for view in views] == [
        ((3, 2, 4), "float32"), ((3,), "bool"), ((3, 3, 2), "uint16"), ((3,), "int32"), ((3, 2), "int32")]
    assert views[3].tolist() == [0, 2, 1] and views[4].tolist() == [[1, 1], [3, 2], [0, 0]]
    assert [spec.name for spec in framed(OWN_SPECS)][3:] == ["boxes.sizes", "depth.sizes"]
    nothing = own(3, sizes=(0, 0, 0), depth=((0, 0),) * 3, depth_=b"", boxes=0)
    with pytest.raises(ProtocolError, match="produced has 6 arrays"):
        check_arrays(nothing, OWN_JOB, INDICES)
    nothing = own(3, sizes=(0, 0, 0), depth=((0, 0),) * 3)
    nothing = replace(nothing, arrays=nothing.arrays[:2] + (b"",) + nothing.arrays[3:])
    views = check_arrays(nothing, OWN_JOB, INDICES)
    assert views[0].shape == (3, 0, 4) and views[2].shape == (3, 0, 0)


@pytest.mark.parametrize("wrong, sentence", [
    ({"sizes": (0, 21, 1)}, "produced.boxes.sizes has 21, the job permits 0 to 20"),
    ({"sizes": (0, -1, 1)}, "produced.boxes.sizes has -1"), ({"depth": ((1, 1), (1, 3), (0, 0))}, "depth.sizes has 3"),
    ({"boxes_sizes": bytes(8)}, "produced.boxes.sizes has 8 bytes instead of 12"),
    ({"boxes": 95}, "produced.boxes has 95 bytes instead of 96"), ({"boxes": 960}, "has 960 bytes instead of 96"),
    ({"face": b"\0\1\2"}, "bool and has another byte"), ({"rows": (1, 1)}, "produced.rows are not 1 to 3"),
    ({"rows": (3, 0, 0)}, "produced.rows are not 1 to 3"), ({"rows": (1, 1, 1), "skipped": ((5, ""),)}, "count is 3"),
    ({"rows": (3,)}, "count is 3 with 0 skipped: the lease has 3"),
    ({"rows": (1, 1, 1), "missing": 9}, "produced.missing is 9, and the number of rows"),
    ({"missing": 1}, "0 skipped and 1 missing"),
    ({"count": 4, "sizes": (1,) * 4, "depth": ((0, 0),) * 4, "rows": (4,)}, "produced.rows are not 1 to 3")])
def test_a_batch_of_own_arrays_that_does_not_fit(wrong, sentence):
    with pytest.raises(ProtocolError, match=sentence):
        check_arrays(own(**wrong), OWN_JOB, INDICES)


def test_a_sample_may_make_several_rows_and_a_batch_function_may_leave_some_out():
    both = ((5, "", "", True), (6, "", "", True))
    assert len(check_arrays(own(rows=(3,), skipped=both), OWN_JOB, INDICES)[0]) == 3
    assert len(check_arrays(own(2, sizes=(1, 1), depth=((3, 2),) * 2, missing=1), OWN_JOB, INDICES)[1]) == 2
    with pytest.raises(ProtocolError, match="produced.missing is 1, and the job permits none"):
        check_arrays(own(2, sizes=(1, 1), depth=((3, 2),) * 2, missing=1), replace(OWN_JOB, may_skip=False),
                           INDICES)


def test_arrays_are_little_endian_views_on_the_frames():
    frames = [memoryview(array.tobytes()) for array in ARRAYS]
    arrays = check_arrays(received(frames=frames), JOB, INDICES)
    assert all(np.shares_memory(array, np.frombuffer(frame, np.uint8)) for array, frame in zip(arrays, frames))
    assert arrays[1].dtype == np.dtype("<i4") and arrays[1].tolist() == [[1], [-2]]


@given(st.integers(0, 4), st.lists(st.tuples(st.integers(4, 10), st.just("bad")), max_size=4),
       st.lists(st.sampled_from([0, 4, 8, 12, 23, 24, 36]).map(bytes), max_size=3))
def test_any_batch_fits_the_lease_or_is_a_protocol_error(count, skipped, frames):
    """An accepted batch accounts for every sample of the lease once and has the job's shapes."""
    message = received(count, tuple(skipped), frames)
    try:
        arrays = check_arrays(message, JOB, INDICES)
    except ProtocolError:
        return
    left_out = [index for index, _ in skipped]
    assert count + len(left_out) == len(INDICES)
    assert set(left_out) <= set(INDICES) and len(set(left_out)) == len(left_out)
    assert [(array.dtype, array.shape) for array in arrays] == [
        (np.dtype(spec.dtype), (count,) + spec.shape) for spec in SPECS]


def test_the_longest_message_of_a_worker_is_within_the_limit():
    most = "\U0001f600"
    failed = Failed("r" * 64, 1 << 62, 1 << 62, most * MAX_TEXT, most * MAX_TEXT, most * MAX_TEXT,
                    (Skipped(1 << 62, most * MAX_REASON, most * MAX_SKIPPED_PATH),))
    assert codec.decode_from_worker(codec.encode(failed), codec.max_header_bytes(1)) == failed
    produced = Produced("r" * 64, 1 << 62, 1 << 62, 0,
                        tuple(Skipped((1 << 62) + number, most * MAX_REASON, most * MAX_SKIPPED_PATH)
                              for number in range(1000)), 0.1, ())
    assert codec.decode_from_worker(codec.encode(produced), codec.max_header_bytes(1000)) == produced
    with pytest.raises(ProtocolError, match="limit 1048576"):
        codec.decode_from_worker([bytes((1 << 20) + 1)], 1 << 20)


@pytest.mark.parametrize("value", [b"\xd4\xfe\x00", b"\xd5\x80\x00\x00", b"\xc7\x01\xfe\x00", b"\xc8\x00\x01\x81\x00"])
def test_unpacking_never_fails_half_way(value, monkeypatch):
    """It would leak in msgpack 1.0.5. An extension with a negative code is an error for ``ExtType``."""
    monkeypatch.setattr(unpacking, "_LEAKS", True)      # as on Python 3.6; newer ones free what they fail to unpack
    failed = []
    unpackb = msgpack.unpackb

    def watched(*args, **kwargs):
        try:
            return unpackb(*args, **kwargs)
        except Exception:
            failed.append(args)
            raise
    monkeypatch.setattr(msgpack, "unpackb", watched)
    with pytest.raises(ProtocolError):
        codec.decode_from_worker([b"\x93" + bytes([V]) + b"\xa5alive\x92\xa1r" + value])
    assert not failed

"""How many workers a trainer has, if they serve others, too."""

import pytest

from stoker.pipeline.coordinator.standing import workers_of
from stoker.pipeline.options import JobOptions, StreamOptions
from stoker.pipeline.protocol.messages import Hello, Room
from tests.support.trainer import SilentTrainer

JOB = JobOptions(image_size=(2, 3), batch_size=2)


@pytest.mark.parametrize("trainers, workers", [
    ([], 0), ([1], 1), ([1, 1, 1], 3), ([4], 1), ([4] * 4, 1), ([4] * 8, 2), ([1, 1, 64], 3), ([2, 2, 2], 2)])
def test_a_worker_of_several_trainers_is_a_part_of_one(trainers, workers):
    assert workers_of(trainers) == workers


def test_the_fleet_counts_parts():
    trainer = SilentTrainer(JOB, options=StreamOptions())
    for number in range(4):
        trainer.say(b"%d" % number, Hello("host:%d/0" % number, 1, "none", 0, "", 16, trainers=4),
                    Room("5eed", 1))
    trainer.say(b"own", Hello("own:1/0", 1, "none", 2, "", 2))
    trainer.tick(1.0)
    fleet = trainer.session.standing.fleet
    assert (fleet.workers, fleet.ready, fleet.worth, fleet.cores) == (2, 5, 2.0, 4 + 2)


def test_a_member_that_floods_room_is_cut_off():
    trainer = SilentTrainer(JOB, options=StreamOptions())
    trainer.say(b"a", Hello("host:1/0", 1, "none", 0, "", trainers=2))
    trainer.say(b"b", Hello("host:2/0", 1, "none", 2, ""))
    trainer.say(b"a", *[Room("5eed", 0)] * 50)
    assert trainer.gone == set()
    trainer.say(b"a", *[Room("5eed", 0)] * 30)
    assert trainer.gone == {b"a"}
    trainer.say(b"b", *[Room("5eed", 3)] * 200)          # it reads ahead
    assert trainer.gone == {b"a"}
    trainer.say(b"b", Room("5eed", 3))
    assert trainer.gone == {b"a", b"b"} and "too many Rooms" in trainer.summary()

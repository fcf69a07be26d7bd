"""Fuzzes a training: mutated messages are sent to its port over real sockets, while real workers feed it.

Afterwards the same steps are trained without them. Both audits must be equal, the trainer must not have ended, and its
memory must not have grown. Prints the batches/s of both.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace

import zmq

from stoker.pipeline.errors import ProtocolError
from stoker.pipeline.protocol import codec
from stoker.pipeline.protocol.messages import Refused, Welcome
from tests.fuzz.mutation import Mutator
from tests.integration.conftest import draw
from tests.soak.soak import fitted
from tests.support.memory import rss_kb
from tests.support.processes import Program, interpreter
from tests.unit.test_codec import FROM_TRAINER, FROM_WORKER

PEERS = 4
LIFE = 5000             # messages of a connection, at most
SEND_S = 5.0            # a connection that accepts nothing for so long is replaced by a new one
MAX_GROWTH_KB = 8192   # of the trainer, by linear regression over the samples after a tenth of the flood
STUCK_S = 120.0

#: Iterates until the file ``stop`` exists, or for ``steps``; then prints the number of steps.
TRAINER = """
import json, os, sys
from stoker.trainer.feed import open_stream
options = json.loads(sys.argv[1])
with open_stream(**options["stream"]) as stream:
    print("address", stream.address, flush=True)
    for batch in stream:
        if batch.step == 0:
            print("first", flush=True)
        if batch.step + 1 == options["steps"] or batch.step % 16 == 0 and os.path.exists(options["stop"]):
            break
print("steps", batch.step + 1, flush=True)
"""


class Flood:
    """Some connections, each with a mutator of its own, which uses the run's id as soon as the trainer sends it."""

    def __init__(self, address, seed):
        self._context, self._address, self._seed = zmq.Context(), address, seed
        self.run, self.sent, self.connections, self.stuck, self.welcomes, self.refusals = "r1", 0, 0, 0, 0, 0
        self._peers = [self._connect() for _ in range(PEERS)]

    def _connect(self):
        peer = self._context.socket(zmq.DEALER)
        for option, value in ((zmq.LINGER, 1000), (zmq.IMMEDIATE, 1), (zmq.RECONNECT_IVL, 1)):
            peer.setsockopt(option, value)
        peer.connect(self._address)
        self.connections += 1
        corpus = [codec.encode(replace(message, run=self.run) if hasattr(message, "run") else message)
                  for message in FROM_WORKER * 2 + FROM_TRAINER]
        return [peer, Mutator(self._seed + self.connections, corpus), 0, time.monotonic()]

    def step(self):
        """A few messages of each peer."""
        before = self.sent
        for number, (peer, mutator, sent, heard_s) in enumerate(self._peers):
            try:
                for _ in range(50):
                    frames = mutator.garbage() if mutator.below(10) == 0 else mutator.message()
                    peer.send_multipart(frames or [b""], zmq.NOBLOCK)
                    sent += 1
                    self.sent += 1
                heard_s = time.monotonic()
            except zmq.Again:                # disconnected, and reconnecting; or the trainer reads no faster
                if time.monotonic() - heard_s > SEND_S:
                    self.stuck += 1
                    sent = LIFE
            self._hear(peer)
            self._peers[number][2:] = sent, heard_s
            if sent >= LIFE * (1 + mutator.below(4)) // 4:
                peer.close()
                self._peers[number] = self._connect()
        if self.sent == before:
            time.sleep(0.002)

    def _hear(self, peer):
        try:
            while True:
                try:
                    message = codec.decode_from_trainer(peer.recv_multipart(zmq.NOBLOCK))
                except ProtocolError as error:
                    raise AssertionError("the trainer sent a malformed message: %s" % error) from error
                self.refusals += isinstance(message, Refused)
                if isinstance(message, Welcome):
                    self.welcomes, self.run = self.welcomes + 1, message.run
        except zmq.Again:
            pass

    def close(self):
        for peer, _, _, _ in self._peers:
            peer.close()
        self._context.term()


def content(path):
    """The part of an audit that must be equal in both runs."""
    with open(path) as lines:
        entries = [json.loads(line) for line in lines]
    return [(entry["step"], entry["epoch"], entry["indices"], entry["skipped"], entry["crc32"]) for entry in entries]


def flood(runs, seed):
    """Returns the exit code."""
    from tqdm import tqdm
    with tempfile.TemporaryDirectory(prefix="stoker-flood-") as folder:
        pictures, stop = os.path.join(folder, "pictures"), os.path.join(folder, "stop")
        draw(pictures, "jpg", 64, (48, 48))

        def options(audit, steps):
            return json.dumps({"stop": stop, "steps": steps, "stream": dict(
                data=pictures, image_size=32, batch_size=8, epochs=10 ** 6, seed=3, workers=2, lease_s=2.0,
                worker_python=interpreter("STOKER_TEST_WORKER_PYTHON"), audit=os.path.join(folder, audit))})
        with Program(["-c", TRAINER, options("flooded", -1)]) as trainer, tqdm(total=runs, unit="msg",
                                                                             disable=None) as bar:
            address = trainer.wait_for_line("^address ")[0].split()[1]
            trainer.wait_for_line("^first")
            shooting, at, kb = Flood(address, seed), [], []
            start = sampled_s = time.monotonic()
            sent = 0
            while shooting.sent < runs and trainer.running():
                shooting.step()
                now = time.monotonic()
                if now - sampled_s > 0.2:
                    assert shooting.sent > sent or now - sampled_s < STUCK_S, "the trainer takes no messages"
                    if shooting.sent > sent:
                        bar.update(shooting.sent - sent)
                        sampled_s, sent = now, shooting.sent
                        at.append(sent)
                        kb.append(rss_kb(trainer.pid))
            shooting.close()
            seconds = time.monotonic() - start
            open(stop, "w").close()
            if trainer.wait() != 0:
                print("stoker: socket_flood: the trainer ended after %d messages:\n%s" % (shooting.sent,
                                                                                        trainer.text[-4000:]))
                return 1
            steps = int(trainer.wait_for_line("^steps ")[0].split()[1])
        print("flood: %d messages in %.1f s (%.0f/s) over %d connections of %d peers (%d would take no more); answered "
              "with %d Welcomes, %d Refused" % (shooting.sent, seconds, shooting.sent / seconds, shooting.connections,
                                                PEERS, shooting.stuck, shooting.welcomes, shooting.refusals))
        first = len(at) // 10
        slope, error = fitted(at[first:], kb[first:]) if len(at) > 30 else (0.0, 0.0)
        growth_kb = slope * (at[-1] - at[first]) if at else 0.0
        print("  trainer: RSS %s KB, slope %+.2f +- %.2f KB per 1,000 messages (%d samples)"
              % ("%d..%d" % (min(kb), max(kb)) if kb else "?", 1e3 * slope, 1e3 * error, len(at)))
        os.remove(stop)
        with Program(["-c", TRAINER, options("peace", steps)]) as trainer:
            trainer.wait_for_line("^first")
            start = time.monotonic()
            code = trainer.wait(10 * seconds + 60)
            peace_s = time.monotonic() - start
        same = code == 0 and content(os.path.join(folder, "flooded")) == content(os.path.join(folder, "peace"))
        print("  training: %d steps, %.0f batches/s beside the flood, %.0f in peace; the audits are %s"
              % (steps, steps / seconds, steps / peace_s, "the same" if same else "NOT THE SAME"))
        if growth_kb > MAX_GROWTH_KB:
            print("stoker: socket_flood: the trainer grew by %d KB (limit %d)" % (growth_kb, MAX_GROWTH_KB))
        return 0 if same and growth_kb <= MAX_GROWTH_KB else 1


def main():
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="tests.fuzz.socket_flood", description=__doc__)
    parser.add_argument("--runs", type=int, default=100000, help="messages")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    return flood(args.runs, args.seed)


if __name__ == "__main__":
    sys.exit(main())

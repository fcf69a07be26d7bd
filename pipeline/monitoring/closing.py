"""The closing lines of a stream: its result, its speed, and what to do about the speed. Pure: times come in."""

from typing import Optional, Set

from stoker.pipeline.monitoring.throughput import Verdict, percent

TOO_SHORT = "bottleneck: the run was too short to name it"


class Totals:
    """What a stream handed out, and how long its consumer waited and worked. Times in seconds of a monotonic clock."""

    def __init__(self) -> None:
        self.samples = 0
        self.waited_s = 0.0           # the consumer waited for batches, in all
        self.produced_s = 0.0         # workers took for the batches consumed so far, in all
        self._workers: Set[str] = set()      # that have made a batch: the first one includes their imports
        self._later_samples, self._later_s = 0, 0.0       # of the other batches
        self.waits_since_s: Optional[float] = None     # the consumer waits for a batch; None: it does not
        self._begun_s: Optional[float] = None
        self._ended_s: Optional[float] = None

    def asked(self, now: float) -> None:
        """The consumer asks for a batch."""
        self.waits_since_s = now
        if self._begun_s is None:
            self._begun_s = now

    def waited(self, seconds: float) -> None:
        """The consumer waited for so long, and waits no more."""
        self.waited_s += seconds
        self.waits_since_s = None

    def handed_out(self, worker: str, samples: int, produce_s: float) -> None:
        """The consumer got a batch, which ``worker`` made."""
        self.samples += samples
        self.produced_s += produce_s
        if worker in self._workers:
            self._later_samples += samples
            self._later_s += produce_s
        self._workers.add(worker)

    def ended(self, now: float) -> None:
        """No batch follows. Later calls change nothing."""
        if self._ended_s is None:
            self._ended_s = now

    def speed(self, unit: str, now: float) -> str:
        """The line on the speed; ``unit``: what is counted, such as images."""
        if self._begun_s is None or not self.samples:
            return "speed: no %s were used" % unit
        seconds = max(1e-9, (now if self._ended_s is None else self._ended_s) - self._begun_s)
        per_sample_s = self._later_s / self._later_samples if self._later_samples else self.produced_s / self.samples
        return "speed: %.0f %s/s; the trainer waited for data %s of the time; a worker takes %.2f ms per %s" % (
            self.samples / seconds, unit, percent(min(1.0, self.waited_s / seconds)),
            1000 * per_sample_s, unit[:-1])


def closing_lines(step: int, steps: int, left_out: str, speed: str, verdict: Optional[Verdict], verified: str = ""
                  ) -> str:
    """Three lines, and ``verified`` if it is not ''. ``left_out``: what is not in the batches, in a sentence."""
    return "\n".join(["result: %d of %d steps, %s" % (step, steps, left_out), speed,
                      "bottleneck: " + verdict.sentence if verdict else TOO_SHORT] + [verified] * bool(verified))

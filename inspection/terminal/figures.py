"""What /details.json of a trainer says, checked: whatever answers at the address, the figures have the types that they
should have, and all text can be shown in a terminal. Pure."""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from stoker.pipeline.storage.checked_json import loads
from stoker.pipeline.text import printable

MAX_BYTES = 4 << 20       # of an answer
MAX_CHARS = 300           # of a text
MAX_NUMBER = 1e15
MAX_ENTRIES = 1000        # of any list
MAX_STATES = 20           # of a worker
STAGES = ("storage", "decode", "augment", "generator")


class Worker(NamedTuple):
    """A row of the table of workers. None: not known."""
    name: str
    host: str
    pid: Optional[float]
    state: str
    versions: str
    silent_s: Optional[float]
    batches: Optional[float]
    samples_per_s: Optional[float]
    stages_ms: Dict[str, Optional[float]]
    restarts: Optional[float]
    why: str


class Event(NamedTuple):
    """What happened at ``s``, a unix time."""
    s: Optional[float]
    kind: str
    text: str


class Figures(NamedTuple):
    """The figures of a run. None, '' or an empty list: not known."""
    run: str
    over: bool
    unit: str
    step: Optional[float]
    steps: Optional[float]
    epoch: Optional[float]
    epochs: Optional[float]
    elapsed_s: Optional[float]
    samples_per_s: Optional[float]
    waiting_share: Optional[float]
    bottleneck: str
    times_ms: Dict[str, Optional[float]]       # of a step, of a batch on a worker, on the wire
    stages: Dict[str, Optional[float]]         # shares of the workers' time
    needed: Optional[float]
    wanted: Optional[float]
    window: Dict[str, Optional[float]]
    memory_mb: Optional[float]
    bad_files: Optional[float]
    rates: List[Optional[float]]               # the oldest first
    waiting: List[Optional[float]]
    states: Dict[str, float]                   # of a worker -> how many have it, also of those without a row
    workers: List[Worker]
    events: List[Event]                        # the newest last
    bad: List[Event]
    next_s: float                              # ask again after so long


def parse(body: bytes) -> Figures:
    """The figures in ``body``. Raises ValueError, with a sentence, if it is no answer of a trainer."""
    try:
        said = loads(body)
    except ValueError as error:
        raise ValueError("that is no answer of a Stoker trainer: %s" % printable(str(error))[:MAX_CHARS]) from None
    if not isinstance(said, dict) or "stoker" not in said or "step" not in said:
        raise ValueError("that is no answer of a Stoker trainer")
    history, bad = _object(said.get("history")), _object(said.get("bad"))
    return Figures(
        run=_text(said.get("run")), over=said.get("over") is True, unit=_text(said.get("unit")) or "samples",
        step=_number(said["step"]), steps=_number(said.get("steps")), epoch=_number(said.get("epoch")),
        epochs=_number(said.get("epochs")), elapsed_s=_number(said.get("elapsed_s")),
        samples_per_s=_number(said.get("samples_per_s")), waiting_share=_number(said.get("waiting_share")),
        bottleneck=_text(_object(said.get("bottleneck")).get("sentence")),
        times_ms=_named(said.get("speed"), ("step_ms", "produce_ms", "wire_ms")),
        stages=_named(said.get("stages"), STAGES),
        needed=_number(said.get("workers_needed")), wanted=_number(_object(said.get("workers")).get("wanted")),
        window=_named(said.get("window"), ("size", "ready", "leased")),
        memory_mb=_number(said.get("memory_mb")), bad_files=_number(said.get("bad_files")),
        rates=[_number(value) for value in _list(history.get("samples_per_s"))],
        waiting=[_number(value) for value in _list(history.get("waiting_share"))],
        states=_states(said.get("states")), workers=[_worker(one) for one in _objects(said.get("worker_table"))],
        events=[Event(_number(one.get("s")), _text(one.get("kind")), _text(one.get("text")))
                for one in _objects(said.get("events"))],
        bad=[Event(_number(one.get("s")), "bad file", "%s: %s" % (_text(one.get("path")), _text(one.get("why"))))
             for one in _objects(bad.get("newest"))],
        next_s=min(60.0, max(0.5, _number(said.get("next_s")) or 1.0)))


def _worker(said: Dict[str, Any]) -> Worker:
    return Worker(_text(said.get("name")), _text(said.get("host")), _number(said.get("pid")), _text(said.get("state")),
                  _text(said.get("versions")), _number(said.get("silent_s")), _number(said.get("batches")),
                  _number(said.get("samples_per_s")), _named(said.get("stages_ms"), STAGES),
                  _number(said.get("restarts")), _text(said.get("why")))


def _number(value: Any) -> Optional[float]:
    return value if type(value) in (int, float) and 0 <= value <= MAX_NUMBER else None


def _named(said: object, names: Sequence[str]) -> Dict[str, Optional[float]]:
    return {name: _number(_object(said).get(name)) for name in names}


def _states(said: object) -> Dict[str, float]:
    counted = [(_text(state), _number(number)) for state, number in list(_object(said).items())[:MAX_STATES]]
    return {state: number for state, number in counted if number}


def _text(value: object) -> str:
    return printable(value[:MAX_CHARS])[:MAX_CHARS] if isinstance(value, str) else ""


def _object(value: object) -> Dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> List[Any]:
    return value[-MAX_ENTRIES:] if isinstance(value, list) else []


def _objects(value: object) -> List[Dict[str, Any]]:
    return [one for one in _list(value) if isinstance(one, dict)]

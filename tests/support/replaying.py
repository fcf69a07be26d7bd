"""Replays a recorded run, on whatever Python runs this: ``python -m tests.support.replaying JSON``, an object of
{"folder", "steps", "seed", "epochs" ..., further arguments of Replay}. Writes JSON: for each of ``steps`` random steps,
in random order and with repetition, [step, checksum, the audit's checksum, skipped, the audit's skipped]."""

import json
import os
import random
import subprocess
import sys

from stoker.trainer.record.replay import Replay

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))       # processes.py needs psutil


def replayed(python, folder, cwd, **options):
    """What this program writes, run by ``python`` in the folder ``cwd``."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
    ended = subprocess.run([python, "-m", "tests.support.replaying", json.dumps(dict(options, folder=str(folder)))],
                           cwd=str(cwd), env=dict(environment, PYTHONPATH=ROOT), stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE)
    assert ended.returncode == 0, ended.stderr.decode("utf-8", "replace")
    return json.loads(ended.stdout.decode())


def main(arguments):
    options = json.loads(arguments)
    chance, count = random.Random(options.pop("seed", 0)), options.pop("steps", 50)
    evaluations = options.pop("evaluations", [])
    with Replay(options.pop("folder"), **options) as run:
        steps = [chance.randrange(run.run.plan.steps) for _ in range(count)]
        found = []
        for batch in run.batches(steps):
            line = run.audited(batch.step)
            found.append([batch.step, run.crc(batch), line and line["crc32"],
                          sorted(skip.index for skip in batch.skipped), line and sorted(line["skipped"])])
        evaluated = [[run.crc(batch) for batch in run.evaluation(epoch)] for epoch in evaluations]
        assert "tensorflow" not in sys.modules
        print(json.dumps({"steps": steps, "found": found, "notes": run.notes, "python": sys.version_info[:2],
                          "evaluated": evaluated, "decoders": [sorted(run.recorded_decoders), sorted(run.decoders)]}))


if __name__ == "__main__":
    main(sys.argv[1])

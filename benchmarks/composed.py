"""Containers against processes: Stoker in Compose, as docker-compose.yml has it, beside the same workers without
containers, on the same pictures and cores.

Each has as many workers as there are cores, and feeds a placeholder of TensorFlow 1.9. In Compose the connection is
encrypted, health checks run, and workers have no rights. Needs a Docker engine; without one there is no table. Images
are built first, which takes minutes the first time.
"""

import os
import shutil
import subprocess
import uuid
from typing import Any, Dict, List, Optional, Sequence

from benchmarks.alternation import Contender, Result, alternate
from benchmarks.contenders.composed import compose, containers
from benchmarks.end_to_end import contender, pictures_made
from benchmarks.table import Goal, Say, Table, main

BARE, COMPOSED, BARE_FRAMES, COMPOSED_FRAMES = (
    "processes", "containers", "processes, --no-shared-memory", "containers, --no-shared-memory")
SHARE = 0.97
DECODE = "fastest"
IMAGES = {"TRAINER_IMAGE": "stoker-bench-trainer", "WORKER_IMAGE": "stoker-bench-worker"}
BASES = {"TRAINER_PYTHON_IMAGE": "python:3.6-slim-bullseye", "WORKER_PYTHON_IMAGE": "python:3.13-slim-bookworm"}
VERSIONS = "import platform, PIL; print('Python %s, Pillow %s' % (platform.python_version(), PIL.__version__))"


def missing() -> str:
    """Why there is no table; '' if nothing is."""
    for program in ("docker", "docker-compose"):
        if shutil.which(program) is None:
            return "there is no %s" % program
    answer = subprocess.run(["docker", "version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return "no Docker engine answers" if answer.returncode else ""


def build() -> None:
    """Stoker's images of this checkout. Their names, and those of the base images, go to the environment."""
    for name, image in BASES.items():
        os.environ[name] = subprocess.run(["sh", ".setup/base-image.sh", os.environ.get(name, image)], check=True,
                                          stdout=subprocess.PIPE, universal_newlines=True).stdout.strip()
    os.environ.update(IMAGES)
    subprocess.run(["docker-compose", "build", "--quiet"], check=True)


def remove(project: str) -> None:
    """All of a project, also what is paused."""
    ids = containers(project)
    if ids:
        subprocess.run(["docker", "rm", "--force"] + ids, stdout=subprocess.DEVNULL, check=False)
    subprocess.run(compose(project) + ["down", "--volumes", "--remove-orphans", "--timeout", "1"], check=False,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def contenders(projects: Sequence[str], pictures: str, size: int) -> List[Contender]:
    python = os.path.abspath(os.path.join(".venv", "workers", "bin", "python"))

    def made(name: str, module: str, way: str) -> Contender:
        return contender(name, "trainer", module, way, pictures, size, "")
    return [made(BARE, "stoker", "%s:%s" % (DECODE, python)),
            made(COMPOSED, "composed", "%s:%s" % (projects[0], DECODE)),
            made(BARE_FRAMES, "stoker", "%s:%s:frames" % (DECODE, python)),
            made(COMPOSED_FRAMES, "composed", "%s:%s:frames" % (projects[1], DECODE))]


def table_of(size: int, facts: str, results: Dict[str, Result], notes: Sequence[str], rounds: int,
             seconds: float) -> Table:
    """The goal is a median of the rounds' own ratios: both contenders of a round ran one after the other."""
    def share(name: str) -> Optional[float]:
        rounds_of = list(zip(results[name].rates, results[BARE].rates))
        ratios = sorted(one / other for one, other in rounds_of)
        return ratios[len(ratios) // 2] if ratios else None
    rows: List[List[Any]] = []
    for name, result in results.items():
        cores = sum(result.cpu) / len(result.cpu) if result.cpu else None
        rows.append([name] + (list(result.rate) if result.rate else [None] * 3) + [share(name), cores, result.error])
    columns = ["the same workers as", "images/s", "least", "most", "x processes", "cores busy", "failed"]
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    goal = Goal("Compose over the same workers without containers, %d pixels" % size, share(COMPOSED) or 0.0, SHARE)
    return Table("composed-%d" % size, "Compose at %dx%d: %s" % (size, size, facts), columns, rows,
                 ["Medians of %d rounds of %g s; x: the median of the rounds' ratios." % (rounds, seconds)]
                 + list(notes), [goal], "bars", "images/s", ("least", "most"))


def run(quick: bool, say: Say) -> List[Table]:
    why = missing()
    if why:
        say("no table: %s" % why)
        return []
    facts = pictures_made(say)["photos"]
    say("building the images")
    build()
    inside = subprocess.run(["docker", "run", "--rm", "--entrypoint", "python", IMAGES["WORKER_IMAGE"], "-c", VERSIONS],
                            check=True, stdout=subprocess.PIPE, universal_newlines=True).stdout.strip()
    outside = subprocess.run([os.path.join(".venv", "workers", "bin", "python"), "-c", VERSIONS], check=True,
                             stdout=subprocess.PIPE, universal_newlines=True).stdout.strip()
    notes = ["Workers: %s%s." % (outside, "" if inside == outside else "; in containers: " + inside)]
    rounds, seconds = (1, 0.5) if quick else (7, 1.5)
    tables = []
    for size in (64, 224):
        projects = ["stoker-bench-%s" % uuid.uuid4().hex[:8] for _ in range(2)]
        try:
            results = alternate(contenders(projects, "photos", size), rounds, seconds, say)
        finally:
            for project in projects:
                remove(project)
        tables.append(table_of(size, facts, results, notes, rounds, seconds))
    return tables


if __name__ == "__main__":
    main(run, __doc__)

"""Stoker in containers: docker-compose.yml, whose trainer's container is a contender (benchmarks/composed.yml), with as
many workers as there are cores.

Way: PROJECT:DECODE, with the name of the Compose project, which ``benchmarks.composed`` removes at the end; and :frames
if the memory of batches is not to be shared. Between its turns all its containers are paused, so that the engine's
health checks rest, too.
"""

import os
import subprocess
import sys
import time
from typing import List, TextIO

from benchmarks.contenders.protocol import ANSWERS, arguments

FILES = ["-f", "docker-compose.yml", "-f", os.path.join("benchmarks", "composed.yml")]
IN_CONTAINER = "/data"      # where a container has the pictures


def compose(project: str) -> List[str]:
    return ["docker-compose", "-p", project] + FILES


def containers(project: str) -> List[str]:
    """The full ids of those that run."""
    return subprocess.run(["docker", "ps", "--quiet", "--no-trunc", "--filter",
                           "label=com.docker.compose.project=" + project], stdout=subprocess.PIPE, check=True,
                          universal_newlines=True).stdout.split()


def cpu_of_s(ids: List[str]) -> float:
    """CPU seconds that the living processes of these containers have used."""
    ticks = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/cgroup" % name) as file:
                    groups = file.read()
                if any(each in groups for each in ids):
                    with open("/proc/%s/stat" % name) as file:
                        fields = file.read().rpartition(")")[2].split()
                    ticks += int(fields[11]) + int(fields[12])
            except OSError:     # it has ended
                pass
    return ticks / os.sysconf("SC_CLK_TCK")


def pause(ids: List[str]) -> None:
    """The kernel cannot always freeze what starts processes at that moment."""
    for attempt in range(5):
        if subprocess.run(["docker", "pause"] + ids, stdout=subprocess.DEVNULL).returncode == 0:
            return
        subprocess.run(["docker", "unpause"] + ids, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.1 * (attempt + 1))
    sys.exit("the containers cannot be paused")


def relay(project: str, trainer: "subprocess.Popen[str]", answers: TextIO) -> None:
    """Passes turns on to the trainer's container, and its answers back, with the CPU seconds of all containers."""
    assert trainer.stdin is not None and trainer.stdout is not None
    answers.write(trainer.stdout.readline())        # ready
    answers.flush()
    ids = containers(project)
    pause(ids)
    for line in sys.stdin:
        subprocess.run(["docker", "unpause"] + ids, stdout=subprocess.DEVNULL, check=True)
        cpu_s, begin = cpu_of_s(ids), time.perf_counter()
        trainer.stdin.write(line)
        trainer.stdin.flush()
        words = trainer.stdout.readline().split()
        cpu_s, took_s = cpu_of_s(ids) - cpu_s, time.perf_counter() - begin
        pause(ids)
        # as in protocol.serve_with: batches are made before the clock runs, too
        answers.write("%s %s %.3f\n" % (words[0], words[1], cpu_s * float(words[1]) / took_s) if words else "\n")
        answers.flush()


def main() -> None:
    way, folder, size = arguments()
    project, decode, frames = (way.split(":") + [""])[:3]
    environment = dict(os.environ, DATA=os.path.abspath(folder), STATUS_PORT="0", WORKERS=str(os.cpu_count() or 1))
    subprocess.run(compose(project) + ["up", "-d", "worker"], env=environment, stdout=sys.stderr, check=True)
    inside = ":".join([decode, "composed"] + [frames] * bool(frames))
    command = ["run", "--rm", "-T", "--use-aliases", "trainer", inside, IN_CONTAINER, str(size)]
    with subprocess.Popen(compose(project) + command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          universal_newlines=True) as trainer:
        relay(project, trainer, os.fdopen(int(os.environ[ANSWERS]), "w"))


if __name__ == "__main__":
    main()

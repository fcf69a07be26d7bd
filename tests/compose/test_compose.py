"""`docker-compose` with a real engine. Whatever happens to containers, the run's audit is the undisturbed one's."""

import json
import os
import re
import subprocess
import time

from stoker.pipeline.monitoring.health import BEAT_INTERVAL_S, STALE_S
from tests.compose.conftest import EPOCHS
from tests.compose.project import Project, compose_command, crash, docker, health, state, wait_for

STEPS = 48 * EPOCHS


def test_images(images):
    """images: no root, no TensorFlow in the worker's, at most 150 MB over Python's (17: clients of stores, 18: HDF5)"""
    for image in images:
        assert docker("inspect", "--format", "{{.Config.User}}", image) == "1000:1000"
        assert "org.opencontainers.image.title" in docker("inspect", "--format", "{{json .Config.Labels}}", image)
    installed = docker("run", "--rm", "--entrypoint", "find", images[1], "/opt/stoker", "/usr/local/lib", "/app",
                       "-maxdepth", "5")
    assert "numpy" in installed and "tensorflow" not in installed.lower() and "/app/workers/" in installed
    # not the whole of it: Python's image grows with Debian's updates
    size, base = (int(docker("inspect", "--format", "{{.Size}}", image))
                  for image in (images[1], os.environ["WORKER_PYTHON_IMAGE"]))
    assert 0 < size - base < 150e6


def test_pillow_simd(clone, images):
    """build: WORKER_PILLOW=simd is all it takes for pillow-simd, and anything else is an error with a sentence"""
    def build(pillow):
        return subprocess.run(compose_command() + ["build", "worker"], cwd=clone, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, universal_newlines=True,
                              env=dict(os.environ, WORKER_PILLOW=pillow, WORKER_IMAGE=images[1] + "-simd"))
    decode = ("import io; from PIL import Image; from stoker.workers import images, process; "
              "print(process.versions()); file = io.BytesIO(); "
              "Image.new('RGB', (64, 48), (9, 99, 200)).save(file, 'jpeg'); "
              "print(images.decoded(file.getvalue(), (8, 8), 'fastest').size)")
    try:
        done = build("simd")
        if done.returncode != 0:                         # a download was cut
            done = build("simd")
        assert done.returncode == 0, done.stdout
        said = docker("run", "--rm", "--entrypoint", "python", images[1] + "-simd", "-c", decode)
        assert re.search(r"pillow-simd [\d.]+post\d+, libjpeg-turbo", said) and said.endswith("(8, 8)")
    finally:
        docker("image", "rm", "--force", images[1] + "-simd", check=False)
    done = build("SIMD")
    assert done.returncode != 0 and "PILLOW (WORKER_PILLOW) must be pillow or simd, not SIMD" in done.stdout


def test_a_change_of_code_rebuilds_no_environment(clone, images, project):
    """build: a change of code installs nothing anew"""
    path = os.path.join(clone, "pipeline", "__init__.py")
    with open(path) as file:
        before = file.read()
    try:
        with open(path, "a") as file:
            file.write("# changed\n")
        started_s = time.monotonic()
        said = project.compose("build", TRAINER_IMAGE="stoker-test-changed", WORKER_IMAGE="stoker-test-changed")
        print("%.1f s" % (time.monotonic() - started_s))
    finally:
        with open(path, "w") as file:
            file.write(before)
        docker("image", "rm", "--force", "stoker-test-changed", check=False)
    assert "Collecting" not in said and "Downloading" not in said and re.search("Using cache|CACHED", said)


def test_undisturbed(undisturbed, pictures):
    """up: trains to the end, each picture of the training part once an epoch"""
    assert [line[0] for line in undisturbed] == list(range(STEPS))
    for epoch in range(EPOCHS):
        indices = [index for line in undisturbed if line[1] == epoch for index in line[2]]
        assert sorted(indices) == list(range(384))


def test_containers_can_write_nowhere_but_into_their_volumes(project):
    """up: no root, root file system and pictures read-only, the trainer's secrets out of the workers' sight"""
    project.up("-d", STOKER_EPOCHS="1000")
    project.wait_for_steps(1)
    for container in project.containers("trainer") + project.containers("worker"):
        assert docker("exec", container, "id", "-u") == "1000"
        for path in ("/data/new.jpg", "/app/new.py", "/opt/stoker/new", "/etc/new"):
            assert "Read-only file system" in docker("exec", "--user", "0", container, "touch", path, check=False)
        docker("exec", container, "touch", "/tmp/new")
    for container in project.containers("worker"):
        assert "Read-only file system" in docker("exec", container, "touch", "/keys/new", check=False)
        assert docker("exec", container, "sh", "-c", "cd /keys && find . -type f | sort").split() == [
            "./worker/.gitignore", "./worker/trainer.key", "./worker/worker.key", "./worker/worker.key_secret"]


def test_limits(project):
    """up: memory and processes of a container are limited, and workers have no way out of their network"""
    project.up("-d", STOKER_EPOCHS="1000", WORKER_MEMORY="512M", WORKER_CPUS="1.5")
    project.wait_for_steps(1)
    limits = "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}"
    for worker in project.containers("worker"):
        assert docker("inspect", "--format", limits, worker) == "%d 1500000000 4096" % (512 << 20)
    # the trainer's port answers in the workers' network, and not by the address that it has in the other one
    networks = json.loads(docker("inspect", "--format", "{{json .NetworkSettings.Networks}}", project.trainer))
    addresses = [networks[project.name + name]["IPAddress"] for name in ("_feed", "_default")]
    ask = "import socket, sys; print([socket.socket().connect_ex((host, 5555)) == 0 for host in sys.argv[1:]])"
    impatient = "import socket; socket.setdefaulttimeout(5); " + ask
    assert docker("exec", worker, "python", "-c", impatient, *addresses) == "[True, False]"
    assert docker("network", "inspect", "--format", "{{.Internal}}", project.name + "_feed") == "true"
    assert docker("inspect", "--format", limits, project.trainer) == "0 0 4096"


def test_health(project):
    """health checks: the trainer's while its stream lives, a worker's while it is connected"""
    project.up("-d", STOKER_EPOCHS="1000")
    project.wait_for_steps(1)
    trainer, worker = project.trainer, project.containers("worker")[0]
    for container in (trainer, worker):
        wait_for(lambda: health(container) == "healthy", "a healthy container")  # noqa: B023
    killed_s = time.monotonic()
    docker("kill", trainer)
    said = docker("exec", worker, "python", "-m", "stoker.pipeline.monitoring.health", "/tmp/alive", check=False)
    # for ten seconds more; on a busy machine the engine may need as long to ask
    assert said == "well" or time.monotonic() - killed_s > STALE_S - BEAT_INTERVAL_S, said
    wait_for(lambda: health(worker) == "unhealthy", "an unhealthy worker")
    assert "no sign of life for" in docker("inspect", "--format", "{{json .State.Health.Log}}", worker)


def test_scaled_up_and_down(project, undisturbed):
    """--scale worker=: 2, 6 and 1 during one training"""
    project.up("-d")
    project.wait_for_steps(50)
    for workers, joined in ((6, 6), (1, 6)):
        project.scale(workers)
        assert len(project.containers("worker")) == workers
        wait_for(lambda: project.joined() >= joined, "%d workers" % joined)  # noqa: B023
    assert project.containers("trainer"), "the trainer has ended before all were there"
    project.wait_for_end()
    assert project.audit() == undisturbed


def test_scaled_up(project, undisturbed):
    """--scale worker=4 during training"""
    project.up("-d")
    project.wait_for_steps(50)
    project.scale(4)
    wait_for(lambda: project.joined() >= 4, "four workers")
    project.wait_for_end()
    assert len({entry["worker"] for entry in project.entries()}) == 4
    assert project.audit() == undisturbed


def test_several_processes_in_a_container(project, undisturbed):
    """WORKER_PROCESSES=4"""
    project.up("-d", WORKER_PROCESSES="4", WORKERS="1")
    project.wait_for_end()
    assert len(re.findall(" joined ", project.log())) == 4 and len(project.containers("worker")) == 1
    assert project.audit() == undisturbed


def test_without_shared_memory(project, undisturbed, tmp_path):
    """STOKER_NO_SHARED_MEMORY: the same bytes, over the network"""
    (tmp_path / "override.yml").write_text(
        "version: '3.9'\nservices: {trainer: {environment: {STOKER_NO_SHARED_MEMORY: 'true'}}}\n")
    project.compose("-f", "docker-compose.yml", "-f", str(tmp_path / "override.yml"), "up", "-d")
    project.wait_for_end()
    assert "come over TCP: the trainer has --no-shared-memory" in project.log()
    assert project.audit() == undisturbed


def test_worker_killed(project, undisturbed):
    """docker kill of a worker: the others go on; `up -d` brings it back"""
    project.up("-d")
    project.wait_for_steps(20)
    killed = project.containers("worker")[0]
    docker("kill", killed)
    project.wait_for_steps(60)
    assert len(project.containers("worker")) == 1
    project.up("-d", "--no-recreate")
    assert len(project.containers("worker")) == 2
    project.wait_for_end()
    assert project.audit() == undisturbed


def test_worker_crashed(project, undisturbed):
    """a worker crashes: the engine starts it again, and it removes the socket that is left of it"""
    project.up("-d")
    project.wait_for_steps(20)
    crashed = project.containers("worker")[0]
    # as if it had been killed between its first word to the trainer and the trainer's answer
    docker("exec", crashed, "python", "-c",
           "import socket; socket.socket(socket.AF_UNIX).bind('/shared/%s.socket' % ('0' * 32))")
    crash(crashed)
    wait_for(lambda: docker("inspect", "--format", "{{.RestartCount}}", crashed) == "1", "a restart")
    project.wait_for_end()
    assert docker("exec", crashed, "ls", "-A", "/shared") == ""
    assert len(re.findall(" joined ", project.log())) == 3
    assert project.audit() == undisturbed


def test_trainer_killed(project, undisturbed):
    """docker kill of the trainer: `up -d` goes on from the checkpoint"""
    project.up("-d")
    project.wait_for_steps(400)
    docker("kill", project.trainer)
    assert state(project.trainer)["Status"] == "exited"
    project.up("-d", "--no-recreate")
    project.wait_for_end()
    assert int(re.search(r"going on from step (\d+) of", project.log()).group(1)) >= 384
    assert project.audit() == undisturbed


def test_trainer_crashed(project, undisturbed):
    """the trainer crashes: the engine starts it again, it goes on from the checkpoint, the workers come back"""
    project.up("-d")
    project.wait_for_steps(400)
    crash(project.trainer)
    project.wait_for_log("going on from step [0-9]+ of")
    project.wait_for_end()
    assert docker("inspect", "--format", "{{.RestartCount}}", project.trainer) == "1"
    assert len(re.findall("come through shared memory", project.log())) == 2
    assert docker("exec", project.containers("worker")[0], "ls", "-A", "/shared") == ""
    assert project.audit() == undisturbed


def test_worker_paused(project, undisturbed):
    """docker pause of a worker: its steps go to the other one; unpaused, it takes part again"""
    project.up("-d")
    project.wait_for_steps(20)
    paused = project.containers("worker")[0]
    docker("pause", paused)
    project.wait_for_steps(400)
    docker("unpause", paused)
    began = project.steps()
    project.wait_for_end()
    assert paused[:12] in {entry["worker"].partition(":")[0] for entry in project.entries()[began:]}
    assert project.audit() == undisturbed


def test_all_paused(project, undisturbed):
    """docker pause of trainer and workers for ten seconds"""
    project.up("-d")
    project.wait_for_steps(50)
    everybody = project.containers("trainer") + project.containers("worker")
    docker("pause", *everybody)
    time.sleep(10)
    docker("unpause", *everybody)
    project.wait_for_end()
    assert project.audit() == undisturbed


def test_worker_off_the_network(project, undisturbed):
    """network disconnect and reconnect of the only worker"""
    project.up("-d", "--scale", "worker=1")
    project.wait_for_steps(20)
    worker = project.containers("worker")[0]
    docker("network", "disconnect", project.name + "_feed", worker)
    time.sleep(8)                                        # longer than a lease
    done = project.steps()
    time.sleep(1)
    assert project.steps() == done
    docker("network", "connect", project.name + "_feed", worker)
    project.wait_for_steps(done + 20)
    project.wait_for_end()
    assert project.audit() == undisturbed


def test_a_worker_with_a_wrong_key(project, undisturbed, clone, images, tmp_path):
    """a worker with the key of another trainer is refused, says so, and does not disturb the run"""
    environment = dict(project.environment, COMPOSE_PROJECT_NAME=project.name + "b")
    keys = subprocess.run(compose_command() + ["run", "--rm", "-T", "trainer", "keys", "worker"], cwd=clone, check=True,
                          stdout=subprocess.PIPE, env=environment)      # before the run, which does not wait for them
    project.up("-d")
    other = Project(clone, images, str(tmp_path), DATA=project.environment["DATA"], TRAINER="trainer:5555")
    try:
        stranger = project.name + "-stranger"
        docker("create", "--name", stranger, "--interactive", "--network", project.name + "_feed", "--tmpfs", "/tmp",
               "--init", "--entrypoint", "sh", images[1], "-c",
               "python -c \"import sys; open('/keys/in.tar', 'wb').write(sys.stdin.buffer.read())\" && "
               "/app/workers/entrypoint.sh keys < /keys/in.tar && exec /app/workers/entrypoint.sh")
        try:
            subprocess.run(["docker", "start", "--interactive", stranger], input=keys.stdout, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, timeout=15)
        except subprocess.TimeoutExpired:
            pass                                         # it is still trying
        wait_for(lambda: "the trainer rejects this worker's connection" in docker("logs", stranger), "its complaint")
        assert "connected to" not in docker("logs", stranger)
        assert "not connected yet" in docker("exec", stranger, "python", "-m", "stoker.pipeline.monitoring.health",
                                             "/tmp/alive", check=False)
        project.wait_for_end()
        assert re.search("a handshake with .* failed", project.log())
        assert project.audit() == undisturbed
    finally:
        docker("rm", "--force", "--volumes", stranger, check=False)
        other.name = other.environment["COMPOSE_PROJECT_NAME"] = project.name + "b"
        other.remove()


def test_down_in_mid_training(project):
    """down in mid-training: a checkpoint, and nothing left"""
    project.up("-d")
    project.wait_for_steps(30)
    pids = [pid for pid in project.pids() if alive(pid)]        # a health check among them may have ended meanwhile
    assert len(pids) >= 8
    started_s, since_s = time.monotonic(), time.time()
    project.compose("down", "--volumes")
    # no process had to be killed after the grace of 20 s; on a busy machine, the commands alone may take as long
    assert time.monotonic() - started_s < 20 or exit_codes(project, since_s).isdisjoint({"137", ""})
    assert project.left() == []
    assert not [pid for pid in pids if alive(pid)]
    assert os.path.exists(os.path.join(project.runs, "photos", "checkpoint"))
    project.up("-d")
    project.wait_for_log("going on from step")


def exit_codes(project, since_s):
    """Of its containers that have ended since then, also of those that are removed."""
    return set(docker("events", "--since", "%.3f" % since_s, "--until", "%.3f" % time.time(), "--filter", "event=die",
                      "--filter", "label=com.docker.compose.project=" + project.name,
                      "--format", "{{.Actor.Attributes.exitCode}}").splitlines() or [""])


def test_stop(project):
    """stop: trainer and workers leave in good order"""
    project.up("-d")
    project.wait_for_steps(30)
    project.compose("stop")
    assert "stopped after step" in project.log() and state(project.trainer)["ExitCode"] == 143
    assert [state(container)["ExitCode"] for container in project.containers("worker", running=False)] == [0, 0]


def alive(pid):
    """A process of Stoker's, or the init above it, has this number on this machine."""
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as file:
            command = file.read()
    except OSError:
        return False
    return any(word in command for word in (b"entrypoint.sh", b"trainer", b"workers"))


def test_folders_that_are_not_what_they_should_be(project, tmp_path):
    """DATA that is not there, is empty or cannot be read: an error that says so, not sample pictures"""
    assert "does not exist" in project.compose("up", "trainer", check=False, DATA=str(tmp_path / "typo"))
    empty, shut = tmp_path / "empty", tmp_path / "shut"
    for folder in (empty, shut):
        folder.mkdir()
    os.chmod(str(shut), 0o700)
    for folder, words in ((empty, "has no image of a class"), (shut, "user 1000 cannot read DATA")):
        if folder == shut and os.geteuid() == 1000:
            continue
        said = project.compose("run", "--rm", "trainer", check=False, DATA=str(folder))
        assert words in said and "sample pictures" not in said
    assert "usage: stoker-train" in project.compose("run", "--rm", "trainer", "--help")
    assert "usage: stoker-worker" in project.compose("run", "--rm", "worker", "--help")


def test_another_user(project):
    """STOKER_USER changed after the first start: both sides say that the keys are another's"""
    project.compose("run", "--rm", "-T", "trainer", "keys", "worker")
    for service in ("trainer", "worker"):
        said = project.compose("run", "--rm", service, check=False, STOKER_USER="1234:1234")
        assert "user 1234 cannot read the keys" in said


def test_ctrl_c(project):
    """Ctrl-C on `up`: everything stops, with a checkpoint"""
    process = subprocess.Popen(compose_command() + ["up", "--exit-code-from", "trainer"], cwd=project.clone,
                               env=project.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               universal_newlines=True)
    wait_for(lambda: project.containers("trainer"), "the trainer's start")
    project.wait_for_steps(30)
    process.send_signal(2)
    said = process.communicate(timeout=60)[0]
    print(said)
    assert project.containers("trainer") == project.containers("worker") == []
    assert "stopped after step" in project.log()


def test_gpu_file(project):
    """docker-compose.gpu.yml is a valid override (not tested on a GPU)"""
    said = project.compose("-f", "docker-compose.yml", "-f", "docker-compose.gpu.yml", "config")
    assert "trainer/gpu.Dockerfile" in said and "nvidia" in said and "STOKER_FEED: staged" in said
    assert "memory: '0'" in said

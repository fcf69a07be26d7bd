"""A worker that a picture has taken over, simulated: in the place where pictures are decoded, it does what an attacker
would do next. Imported by every interpreter that has this folder on its PYTHONPATH (``processes.python_with_path``).

ATTACKS is JSON: name -> (what to do, with what). The results are sent out as text on standard error: nothing else is
open to such a worker.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading


def read(path):
    with open(path, "rb") as file:
        return len(file.read(10))


def listing(path):
    return len(os.listdir(path))


def write(path):
    with open(path, "w") as file:
        file.write("mine")


def remove(path):
    os.remove(path)


def run(program):
    subprocess.check_call([program], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def connect(port):
    socket.create_connection(("127.0.0.1", port), 5).close()


def listen(port):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", port))


def kill(pid):
    os.kill(pid, signal.SIGKILL)


def trace(pid):
    with open("/proc/%d/environ" % pid, "rb") as file:
        content = file.read()
    assert content, "nothing was there"
    return len(content)


def in_another_thread(path):
    """In a thread that was there before the picture came."""
    import stoker.workers.socket_thread as process
    done, original = [], process.SocketThread._run_once

    def once(thread):
        process.SocketThread._run_once = original
        try:
            done.append(read(path))
        except OSError as error:
            done.append(error)
        return original(thread)
    process.SocketThread._run_once = once
    for _ in range(500):
        if done:
            break
        threading.Event().wait(0.02)
    if isinstance(done[0], OSError):
        raise done[0]


DO = {"read": read, "list": listing, "write": write, "remove": remove, "run": run, "connect": connect,
      "listen": listen, "kill": kill, "trace": trace, "other thread": in_another_thread}


def attack():
    for name, (what, value) in json.loads(os.environ["ATTACKS"]).items():
        try:
            DO[what](value)
            result = "done"
        except OSError as error:
            result = "refused: %s" % error.strerror
        except Exception as error:
            result = repr(error)
        sys.stderr.write("ATTACK %s\n" % json.dumps([name, result]))
    sys.stderr.flush()


if "ATTACKS" in os.environ and "stoker.workers.process" in open("/proc/self/cmdline").read():
    ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    sys.path.append(ROOT)
    from stoker.workers.generators import pictures

    original, begun = pictures._pictures, []

    def taken_over(*args, **kwargs):
        if not begun:
            begun.append(True)
            attack()
        return original(*args, **kwargs)
    pictures._pictures = taken_over
    sys.path.remove(ROOT)

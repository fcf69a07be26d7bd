"""A terminal of any size, in tmux, with a shell in it: what is on its screen, and keys for it.

``sh .setup/debian-programs.sh tmux`` unpacks tmux and prints its folder, which STOKER_TEST_TMUX names.
"""

import glob
import os
import re
import shlex
import shutil
import subprocess
import tempfile

from tests.support.processes import ROOT, wait_for

PROMPT = "ready>"


class Terminal:
    """A shell in a tmux of its own, ``width`` x ``height``; in a ``with``, at whose end no process is left."""

    def __init__(self, width=80, height=24, **environment):
        programs = os.environ["STOKER_TEST_TMUX"]
        self._folder = tempfile.mkdtemp(prefix="tmux-", dir="/tmp")     # a short path, for its socket
        self._tmux = [os.path.join(programs, "usr", "bin", "tmux"), "-S", os.path.join(self._folder, "socket"), "-u"]
        self._environment = dict(os.environ, TERM="xterm", LC_ALL="C.UTF-8", LD_LIBRARY_PATH=":".join(
            glob.glob(os.path.join(programs, "usr", "lib", "*-linux-gnu"))))
        # TERM inside is tmux's own: screen
        shell = dict(PS1=PROMPT + " ", PYTHONPATH=os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")])),
                     **environment)
        self._run("-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height), "env",
                  "-u", "LD_LIBRARY_PATH", *["%s=%s" % pair for pair in shell.items()], "bash", "--norc", "--noprofile")
        self.wait_for(PROMPT)

    def _run(self, *arguments):
        done = subprocess.run(self._tmux + list(arguments), env=self._environment, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=60)
        assert done.returncode == 0, (arguments, done.stdout)
        return done.stdout.decode("utf-8", "replace")

    def lines(self, colours=False):
        """What is on the screen. ``colours``: with the escape sequences of colours."""
        return self._run("capture-pane", "-p", *["-e"] * colours).rstrip("\n").split("\n")

    def text(self):
        """The same as one text."""
        return "\n".join(self.lines())

    def keys(self, *names):
        """Presses keys, by the names that tmux has for them."""
        self._run("send-keys", *names)

    def enter(self, *command):
        """A line for the shell: a command, and a line with its exit code."""
        self._run("send-keys", "-l", "clear; " + " ".join(map(shlex.quote, command)) + "; echo code $?")
        self.keys("Enter")

    def resize(self, width, height):
        """Another size."""
        self._run("resize-window", "-x", str(width), "-y", str(height))

    def wait_for(self, pattern, absent=False):
        """The lines of the screen, once the regular expression is found there, or is not."""
        try:
            wait_for(lambda: bool(re.search(pattern, self.text(), re.MULTILINE)) != absent, pattern, every_s=0.1)
        except AssertionError as error:
            raise AssertionError("%s\n%s" % (error, self.text())) from None
        return self.lines()

    def state(self):
        """(whether the other screen is shown, whether there is a cursor)."""
        return tuple(self._run("display-message", "-p", "#{alternate_on} #{cursor_flag}").split())

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        try:
            subprocess.run(self._tmux + ["kill-server"], env=self._environment, timeout=60, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT)
        finally:
            shutil.rmtree(self._folder)

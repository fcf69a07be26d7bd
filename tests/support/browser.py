"""A headless Chromium, driven over its debugging pipe (Chrome DevTools Protocol), without any further package.

``sh .setup/debian-programs.sh chromium`` unpacks it and prints its folder, which STOKER_TEST_CHROMIUM names. Messages
are JSON with a zero byte behind each: descriptor 3 is what the browser reads, descriptor 4 what it writes.
"""

import base64
import fcntl
import glob
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time

from tests.support.processes import wait_for, with_environment

LIMIT_S = 60.0
STOP_S = 10.0
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
         "--disable-default-apps", "--disable-domain-reliability", "--disable-breakpad", "--disable-dev-shm-usage",
         "--mute-audio", "--no-default-browser-check", "--hide-scrollbars", "--lang=en-US",
         # whatever a page asks for, nothing but this host is reached
         "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost", "--no-proxy-server",
         "--remote-debugging-pipe"]
#: So that pages look alike on every machine: only the fonts that were unpacked with Chromium.
FONTS = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd"><fontconfig>
<dir>{programs}/usr/share/fonts</dir><cachedir>{folder}/fonts</cachedir>
<alias binding="strong"><family>sans-serif</family><prefer><family>Inter</family></prefer></alias>
<alias binding="strong"><family>system-ui</family><prefer><family>Inter</family></prefer></alias>
<alias binding="strong"><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
</fontconfig>"""
#: Key of a keyboard -> (code, Windows' virtual key code, the text it types)
KEYS = {"Tab": ("Tab", 9, ""), "Enter": ("Enter", 13, "\r"), "Space": ("Space", 32, " "), "Escape": ("Escape", 27, ""),
        "End": ("End", 35, ""), "Home": ("Home", 36, ""), "ArrowRight": ("ArrowRight", 39, ""),
        "ArrowLeft": ("ArrowLeft", 37, ""), "ArrowDown": ("ArrowDown", 40, "")}


class BrowserError(AssertionError):
    """The browser has ended, refused a command, or did not answer in time."""


def program_of(programs):
    """The path of Chromium below the folder ``programs``, and the environment in which it finds its libraries."""
    libraries = glob.glob(os.path.join(programs, "usr", "lib", "*-linux-gnu"))
    libraries += [os.path.join(folder, "pulseaudio") for folder in libraries]
    return (os.path.join(programs, "usr", "lib", "chromium", "chromium"),
            dict(os.environ, LD_LIBRARY_PATH=":".join(libraries)))


def problem(programs):
    """Why the Chromium of ``programs`` cannot run here, in a sentence; None if it can."""
    program, environment = program_of(programs)
    try:
        subprocess.run([program, "--version"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       check=True, timeout=LIMIT_S)
        return None
    except (OSError, subprocess.SubprocessError) as error:
        return "%s cannot run here: %s" % (program, (getattr(error, "output", None) or b"").decode().strip() or error)


class Browser:
    """A Chromium of ``programs`` with an empty profile of its own. In a ``with``, at whose end no process is left."""

    def __init__(self, programs):
        self._folder = tempfile.mkdtemp(prefix="chromium-", dir="/tmp")     # a short path, for its socket
        fonts = os.path.join(self._folder, "fonts.conf")
        with open(fonts, "w") as file:
            file.write(FONTS.format(programs=programs, folder=self._folder))
        program, environment = program_of(programs)
        environment.update(FONTCONFIG_FILE=fonts, HOME=self._folder, TMPDIR=self._folder, TZ="UTC")
        read_fd, self._write_fd = os.pipe()
        self._read_fd, write_fd = os.pipe()

        def give_pipes():               # to high numbers first: one of them may be 3 or 4
            ours = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (read_fd, write_fd)]
            for fd, number in zip(ours, (3, 4)):
                os.dup2(fd, number)
        self._log = open(os.path.join(self._folder, "log"), "w+b")
        self._process = subprocess.Popen(
            [program, *FLAGS, "--user-data-dir=" + os.path.join(self._folder, "profile"), "about:blank"],
            env=environment, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, close_fds=False,
            preexec_fn=give_pipes, start_new_session=True)
        os.close(read_fd)
        os.close(write_fd)
        self._received, self._answers, self._number, self._pages = b"", {}, 0, {}

    def page(self, width=1280, height=900):
        """A new tab, of this size in pixels."""
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, target, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.command(domain + ".enable")
        page.resize(width, height)
        return page

    def command(self, method, session=None, **parameters):
        """What the browser returns for a command of its protocol."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        data = memoryview(json.dumps(message).encode() + b"\0")
        while data:
            data = data[os.write(self._write_fd, data):]
        deadline = time.monotonic() + LIMIT_S
        while self._number not in self._answers:
            if not self.listen(deadline - time.monotonic()):
                raise BrowserError("no answer to %s within %g s\n%s" % (method, LIMIT_S, self.log()))
        answer = self._answers.pop(self._number)
        if "error" in answer:
            raise BrowserError("%s: %s" % (method, answer["error"]))
        return answer["result"]

    def listen(self, seconds):
        """Takes what the browser says, for at most so long; False if that is nothing."""
        if not select.select([self._read_fd], [], [], max(0.0, seconds))[0]:
            return False
        data = os.read(self._read_fd, 1 << 20)
        if not data:
            raise BrowserError("the browser has ended\n" + self.log())
        self._received += data
        *messages, self._received = self._received.split(b"\0")
        for message in map(json.loads, (one.decode() for one in messages)):
            if "id" in message:
                self._answers[message["id"]] = message
            elif message.get("sessionId") in self._pages:
                self._pages[message["sessionId"]].events.append((message["method"], message["params"]))
        return True

    def log(self):
        """What it printed."""
        self._log.seek(0)
        return self._log.read().decode("utf-8", "replace")

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        os.close(self._write_fd)        # it ends by itself
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._read_fd)
            self._log.close()
            wait_for(self._is_cleared, "the end of Chromium's helpers", every_s=0.05)

    def _is_cleared(self):
        """Kills its helpers, which may live on and write, and removes its folder."""
        for pid in with_environment("TMPDIR=" + self._folder):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        shutil.rmtree(self._folder, ignore_errors=True)
        return not os.path.exists(self._folder)


class Page:
    """A tab. ``events``: all that the browser reported of it, as (method, parameters)."""

    def __init__(self, browser, target, session):
        self._browser, self._target, self._session, self.events = browser, target, session, []

    def command(self, method, **parameters):
        """See ``Browser.command``."""
        return self._browser.command(method, session=self._session, **parameters)

    def goto(self, url):
        """Loads ``url``, and waits until its scripts have run."""
        before = len(self._of("Page.loadEventFired"))
        error = self.command("Page.navigate", url=url).get("errorText")
        assert not error, "%s: %s" % (url, error)
        deadline = time.monotonic() + LIMIT_S
        while len(self._of("Page.loadEventFired")) == before:
            assert self._browser.listen(deadline - time.monotonic()), "%s did not load" % url

    def evaluate(self, expression):
        """The value of a JavaScript expression, or of what it promises, as JSON gives it."""
        result = self.command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise BrowserError("%s: %s" % (expression, details.get("exception", {}).get("description", details)))
        return result["result"].get("value")

    def wait_for(self, expression, limit_s=LIMIT_S):
        """Until a JavaScript expression is true."""
        deadline = time.monotonic() + limit_s
        while not self.evaluate("Boolean(%s)" % expression):
            assert time.monotonic() < deadline, "waited %g s in vain for %s; the page says:\n%s" % (
                limit_s, expression, self.text())
            self._browser.listen(0.05)

    def text(self, selector="body"):
        """The visible text of the first element of ``selector``."""
        return self.evaluate("(document.querySelector(%s) || {innerText: ''}).innerText" % json.dumps(selector))

    def resize(self, width, height, scale=1, mobile=False):
        """The size of the window in CSS pixels."""
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale,
                     mobile=mobile)

    def prefer(self, **features):
        """Sets media features by name, such as ``color_scheme="dark"``."""
        self.command("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-" + name.replace("_", "-"), "value": value} for name, value in features.items()])

    def press(self, key, shift=False):
        """Presses and releases a key of KEYS."""
        code, number, text = KEYS[key]
        common = dict(key=" " if key == "Space" else key, code=code, windowsVirtualKeyCode=number,
                      modifiers=8 if shift else 0)
        self.command("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **common)
        self.command("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text):
        """Into the element that has the focus."""
        self.command("Input.insertText", text=text)

    def screenshot(self, path, whole=False):
        """A PNG file of what the window shows, or of the whole page."""
        data = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        with open(str(path), "wb") as file:
            file.write(base64.b64decode(data))

    def requests(self):
        """The URLs of all requests so far, in their order."""
        return [event["request"]["url"] for event in self._of("Network.requestWillBeSent")]

    def complaints(self):
        """What its console, its uncaught errors and its content security policy said so far; without the answers of a
        server that are no 200, which Chromium reports too."""
        entries = [event["entry"] for event in self._of("Log.entryAdded")]
        return ([entry["text"] for entry in entries if entry["source"] != "network"]
                + [str(event["exceptionDetails"]) for event in self._of("Runtime.exceptionThrown")]
                + [str(event["args"]) for event in self._of("Runtime.consoleAPICalled")])

    def hide(self, is_hidden=True):
        """Minimizes the window, or shows it again."""
        window = self._browser.command("Browser.getWindowForTarget", targetId=self._target)["windowId"]
        self._browser.command("Browser.setWindowBounds", windowId=window,
                              bounds={"windowState": "minimized" if is_hidden else "normal"})

    def close(self):
        """Ends the tab."""
        self._browser.command("Target.closeTarget", targetId=self._target)

    def _of(self, method):
        while self._browser.listen(0):
            pass
        return [parameters for name, parameters in self.events if name == method]

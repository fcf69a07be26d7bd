"""The status page in a real Chromium, over real runs: what it shows, to whom, and that no data become HTML."""

import json
import os
import signal
import threading
import time
from contextlib import contextmanager

import pytest

from tests.support.asking import TOKEN, ask, token_file, url_of
from tests.support.bad_pictures import jpeg, photo
from tests.support.browser import Browser
from tests.support.other_user import OTHER
from tests.support.processes import consumer_program, free_port, kill, opened, wait_for, worker_pids
from tests.support.relay import Relay

pytestmark = pytest.mark.needs("chromium")

OPTIONS = dict(image_size=32, batch_size=8, epochs=1000, workers=2)
#: Names of files that would do something if they were HTML, a terminal's line, or a direction of writing. The first of
#: each pair is a picture, the other one is bad.
HOSTILE = [("<img src=x onerror=\"alert(1)\">.jpg", "<img src=y onerror='alert(2)'>.jpg"),
           ("\"quoted\" 'twice' & &amp;.jpg", "a\nnew line\tand a tab.jpg"), ("\u202egpj.exe.jpg", "\u202etxt.gpj.jpg")]
#: A folder and a file in it: together, <script>...</script>
SCRIPT = ("<script>document.title='alert'<", "script>.jpg")


class Live:
    """A run that trains on in a thread of its own until ``stop``. ``url``: of its page."""

    def __init__(self, run, pause_s):
        self.run, self.url, self.pause_s = run, url_of(run.stream), pause_s
        self._stop, self._failed = threading.Event(), []
        self._thread = threading.Thread(target=self._train, name="training", daemon=True)
        self._thread.start()

    def _train(self):
        try:
            for _ in self.run.stream:
                if self._stop.wait(self.pause_s):
                    return
        except Exception as error:
            self._failed.append(error)

    def train_on(self):
        """To the end of the run, without pauses."""
        self.pause_s = 0.0
        self._thread.join(120)
        assert not self._thread.is_alive()

    def stop(self):
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive() and not self._failed, self._failed


@contextmanager
def training(data, folder, worker_python, pause_s=0.02, **options):
    """A Live run with a status page."""
    options = dict(OPTIONS, worker_python=worker_python, **dict({"status": "127.0.0.1:0"}, **options))
    with opened(data, folder / "audit", **options) as run:
        live = Live(run, pause_s)
        try:
            yield live
        finally:
            live.stop()


@pytest.fixture
def hostile_pictures(tmp_path):
    """A folder of 40 pictures in two classes, with the names of HOSTILE and SCRIPT, and four bad files."""
    root = tmp_path / "photos"
    for name in ("<b>bold</b>".replace("/", ""), SCRIPT[0]):
        (root / name).mkdir(parents=True)
        for number in range(16):
            jpeg(str(root / name / ("%02d.jpg" % number)), photo(number))
    folder = root / SCRIPT[0]
    jpeg(str(folder / SCRIPT[1]), photo(3))
    for good, bad in HOSTILE:
        jpeg(str(folder / good), photo(5))
        (folder / bad).write_bytes(b"no picture")
    return str(root)


def open_page(page, url):
    """Waits until the figures are there."""
    page.goto(url + "/")
    page.wait_for("!document.getElementById('figures').hidden")


def cells(page, column):
    """The texts of a column of the table of workers."""
    return page.evaluate("Array.from(document.querySelectorAll('#workers tbody tr'), row => row.cells[%d].innerText)"
                         % column)


def column(page, title):
    """Its number in the table of workers."""
    return page.evaluate("Array.from(document.querySelectorAll('#workers thead th'), head => head.innerText)").index(
        title)


STEP = "Number(document.getElementById('step').innerText.split(' ')[0].replace(/,/g, ''))"
#: The batch that was asked for is there.
SHOWN = "document.getElementById('next').getAttribute('aria-disabled') == 'false'"
PICTURES = "Array.from(document.querySelectorAll('#samples img')).filter(one => one.naturalWidth > 0).length"


def test_the_page_shows_a_run_and_goes_on_by_itself(pictures, tmp_path, worker_python, page):
    """Figures, workers and pictures of a real run, live, and nothing from elsewhere"""
    with training(pictures, tmp_path, worker_python) as live:
        open_page(page, live.url)
        first = page.evaluate(STEP)
        page.wait_for(STEP + " > %d" % (first + 20))
        page.wait_for("document.querySelectorAll('#workers tbody tr').length == 2")
        assert sorted(map(int, cells(page, column(page, "PID")))) == worker_pids()
        page.wait_for("Array.from(document.querySelectorAll('#workers [data-state=works]')).length")
        assert all("pillow" in said for said in cells(page, column(page, "Versions")))
        page.wait_for("document.getElementById('rate').innerText != '–'")
        page.wait_for("document.querySelector('#rate-chart .stroke').getAttribute('d').length > 20")
        page.wait_for("(document.querySelector('#verdict b') || {}).textContent")
        page.wait_for(PICTURES + " == 8")
        labels = page.evaluate("Array.from(document.querySelectorAll('#samples b'), one => one.innerText)")
        assert len(labels) == 8 and set(labels) <= {"left", "right"}
        assert page.text("#state") == "running" and "of 15,000" in page.text("#step")
        assert page.evaluate("document.title").endswith("images/s · Stoker")
        assert page.text("#epoch") in ("%d of 1,000" % epoch for epoch in range(1, 1000))
        own = [url for url in page.requests() if not url.startswith("data:image/")]
        assert all(url.startswith(live.url + "/") for url in own)
        assert sorted({url[len(live.url):] for url in own}) == [
            "/", "/batch.json", "/details.json", "/page.css", "/page.js"]
        assert own.count(live.url + "/") == 1                 # it was not loaded again


def test_pictures_are_made_only_for_those_who_look(pictures, tmp_path, worker_python, page):
    """/batch.json is asked for while its section is visible, and then once; a button asks for the next batch"""
    with training(pictures, tmp_path, worker_python) as live:
        page.resize(400, 300)
        open_page(page, live.url)
        page.wait_for(STEP + " > 20")
        assert live.url + "/batch.json" not in page.requests()
        page.evaluate("document.getElementById('batch').scrollIntoView()")
        page.wait_for(PICTURES + " == 8")
        asked, note = page.requests().count(live.url + "/batch.json"), page.text("#batch-note")
        page.wait_for(STEP + " > %d" % (page.evaluate(STEP) + 100))
        assert page.requests().count(live.url + "/batch.json") == asked and page.text("#batch-note") == note
        page.evaluate("document.getElementById('next').click()")
        page.wait_for("document.getElementById('batch-note').innerText.includes('samples') && "
                      "document.getElementById('batch-note').innerText != %s" % json.dumps(note))


def test_a_hidden_tab_asks_for_nothing(pictures, tmp_path, worker_python, page):
    """Polling stops in a minimized window, and goes on when it is shown"""
    with training(pictures, tmp_path, worker_python) as live:
        open_page(page, live.url)
        page.hide()
        page.wait_for("document.hidden")
        step = page.evaluate(STEP)
        wait_for(lambda: live.run.stream.step > step + 100, "further steps")
        before = len(page.requests())
        step = live.run.stream.step
        wait_for(lambda: live.run.stream.step > step + 150, "further steps")
        assert len(page.requests()) == before
        page.hide(False)
        page.wait_for(STEP + " > %d" % step)


def test_hostile_names_stay_text(hostile_pictures, tmp_path, worker_python, page):
    """File names and labels with tags, quotes, ends of lines and directions of writing do nothing"""
    with training(hostile_pictures, tmp_path, worker_python) as live:
        open_page(page, live.url)
        page.wait_for("document.querySelectorAll('#bad li').length == 3")
        page.wait_for(PICTURES)
        for _ in range(30):                      # until the picture of the script has been among those shown
            page.wait_for(SHOWN)
            titles = page.evaluate("Array.from(document.querySelectorAll('#samples [title]'), one => one.title)")
            if any("</script>" in title for title in titles):
                break
            page.evaluate("document.getElementById('next').click()")
        said = page.text("#bad") + page.text("#events") + "".join(titles)
        for shown in ("<script>document.title='alert'</script>.jpg", "<img src=y onerror='alert(2)'>.jpg",
                      r"a\nnew line\tand a tab.jpg", r"\u202etxt.gpj.jpg"):
            assert shown in said, shown
        whole = page.evaluate("document.documentElement.textContent")
        assert "\u202e" not in whole and "\u202e" not in "".join(titles)
        assert page.evaluate("document.querySelectorAll('main script, main b b, img:not([src^=\"data:image/png\"]), "
                             "[onerror]').length") == 0
        assert "alert" not in page.evaluate("document.title")
        assert not [url for url in page.requests() if not url.startswith((live.url + "/", "data:image/png;"))]


def test_a_killed_worker_is_an_event_and_comes_back(pictures, tmp_path, worker_python, page):
    with training(pictures, tmp_path, worker_python) as live:
        open_page(page, live.url)
        page.wait_for("document.querySelectorAll('#workers tbody tr').length == 2")
        before = worker_pids()
        kill(before[0])
        page.wait_for("document.querySelector('#events [data-kind=lost]')")
        wait_for(lambda: len(set(worker_pids()) - set(before)) == 1, "the new worker")
        page.wait_for("Array.from(document.querySelectorAll('#workers tbody tr'), row => row.cells[%d].innerText)"
                      ".includes('1')" % column(page, "Restarts"))
        assert sorted(map(int, cells(page, column(page, "PID")))) == worker_pids()


def test_the_end_of_a_run_is_an_end(pictures, tmp_path, worker_python, page):
    """After the last step the page says that the run is over, and goes on saying it without the trainer"""
    with training(pictures, tmp_path, worker_python, epochs=20) as live:
        open_page(page, live.url)
        live.train_on()
        page.wait_for("document.getElementById('state').innerText == 'the run is over'")
        assert page.text("#step") == "300 of 300"
    with pytest.raises(OSError):
        ask(live.url)
    page.evaluate("document.getElementById('again').click()")        # although it would ask by itself only later
    page.evaluate("new Promise(done => setTimeout(done, 1500))")
    assert page.text("#state") == "the run is over" and page.evaluate("document.getElementById('notice').hidden")


def test_a_trainer_that_is_gone_and_comes_back(pictures, tmp_path, worker_python, page):
    """"no answer since", ever more rarely asked, and the next run at the address appears by itself"""
    status = "127.0.0.1:%d" % free_port()
    with training(pictures, tmp_path, worker_python, status=status) as live:
        open_page(page, live.url)
        run = page.text("#run")
    page.wait_for("/^no answer since \\d+ s$/.test(document.getElementById('state').innerText)")
    assert "the trainer has ended, or cannot be reached" in page.text("#notice")
    assert page.text("#spoken") in ("", "no answer")     # read out once, without the seconds
    page.wait_for("/Asking again in [3-9] s/.test(document.getElementById('notice').innerText)")
    with training(pictures, tmp_path, worker_python, status=status):
        page.evaluate("document.getElementById('again').focus()")
        page.evaluate("document.getElementById('again').click()")
        page.wait_for("document.getElementById('state').innerText == 'running'")
        assert page.evaluate("document.getElementById('notice').hidden") and page.text("#run") != run
        assert page.evaluate("document.activeElement.id") == "main"          # nor with the notice


def test_a_trainer_that_hangs(pictures, tmp_path, worker_python, page):
    """A suspended trainer takes the connection and does not answer"""
    status = "127.0.0.1:%d" % free_port()
    with consumer_program(data=pictures, status=status, worker_python=worker_python,
                          **dict(OPTIONS, epochs=100000)) as program:
        program.wait_for_line("step")
        open_page(page, "http://" + status)
        program.send_signal(signal.SIGSTOP)
        try:
            page.wait_for("/^no answer since 1\\d s$/.test(document.getElementById('state').innerText)")
        finally:
            program.send_signal(signal.SIGCONT)
        page.wait_for("document.getElementById('state').innerText == 'running'")


def test_the_token(pictures, tmp_path, worker_python, page):
    """By the fragment, which leaves the address bar, or by the form; a wrong one is refused"""
    with training(pictures, tmp_path, worker_python, status_token_file=token_file(tmp_path)) as live:
        page.goto(live.url + "/")
        page.wait_for("!document.getElementById('access').hidden")
        assert page.evaluate("document.activeElement.id") == "token"
        page.type("wrong")
        page.press("Enter")
        page.wait_for("document.getElementById('refused').innerText")
        page.type(TOKEN)
        page.press("Enter")
        page.wait_for("!document.getElementById('figures').hidden && document.getElementById('access').hidden")
        assert page.evaluate("document.activeElement.id") == "main"          # the focus is not lost with the form
        page.goto(live.url + "/?again")          # the tab keeps it
        page.wait_for("!document.getElementById('figures').hidden")
        page.evaluate("sessionStorage.clear()")
        page.goto(live.url + "/#token=" + TOKEN)
        page.wait_for("!document.getElementById('figures').hidden")
        assert page.evaluate("location.href") == live.url + "/"
        page.wait_for(PICTURES + " == 8")
        assert not [url for url in page.requests() if TOKEN in url and "#token=" not in url]
        assert page.evaluate("document.cookie + localStorage.length") == "0"


def test_the_next_run_has_a_token(pictures, tmp_path, worker_python, page):
    """The page asks for it, and no longer says that there is no answer"""
    status = "127.0.0.1:%d" % free_port()
    with training(pictures, tmp_path, worker_python, status=status) as live:
        open_page(page, live.url)
    page.wait_for("!document.getElementById('notice').hidden")
    with training(pictures, tmp_path, worker_python, status=status, status_token_file=token_file(tmp_path)):
        page.evaluate("document.getElementById('again').click()")
        page.wait_for("!document.getElementById('access').hidden")
        page.evaluate("new Promise(done => setTimeout(done, 1500))")
        assert page.evaluate("document.getElementById('notice').hidden") and page.text("#state") == "needs its token"
        page.type(TOKEN)
        page.press("Enter")
        page.wait_for("document.getElementById('state').innerText == 'running'")


@contextmanager
def relay_of_another_user(address):
    """The address of a relay to ``address`` whose process belongs to another user."""
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.setgroups([])
            os.setgid(OTHER)
            os.setuid(OTHER)
            with Relay(address) as relay:
                os.write(write_fd, relay.address.encode())
                time.sleep(600)
        finally:
            os._exit(1)
    try:
        yield os.read(read_fd, 100).decode()
    finally:
        os.close(read_fd)
        os.close(write_fd)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_another_user_of_the_host_is_told_why_there_is_nothing(pictures, tmp_path, worker_python, page):
    with training(pictures, tmp_path, worker_python) as live:
        with relay_of_another_user(live.url.replace("http", "tcp")) as address:
            page.goto(address.replace("tcp", "http") + "/")
            page.wait_for("document.getElementById('sentence').innerText.includes('user')")
            assert page.evaluate("document.getElementById('figures').hidden") and page.text("#state") == "no figures"


# ------------------------------------------------------------------------------------------- for everyone, everywhere

#: Elements whose right edge lies beyond the window, unless something around them scrolls by itself or cuts them off.
TOO_WIDE = """(() => {
    const free = one => one === document.body ||
        getComputedStyle(one).overflowX === 'visible' && free(one.parentElement);
    return Array.from(document.querySelectorAll('body *')).filter(one =>
        one.getBoundingClientRect().right > innerWidth + 0.5 && free(one.parentElement))
        .map(one => one.outerHTML.slice(0, 100));
})()"""

#: Each text with a contrast below 4.5 to what is behind it, as (text, contrast).
PALE = """(() => {
    const parse = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
    const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 :
        Math.pow((v + 0.055) / 1.055, 2.4)).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = one => {
        for (; one; one = one.parentElement) {
            const colour = parse(getComputedStyle(one).backgroundColor);
            if (colour.length === 3 || colour[3] === 1) return colour;
        }
        return [255, 255, 255];
    };
    const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const one = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
        if (!text || !one.getClientRects().length || one.closest('noscript, .hidden')) continue;
        const a = light(parse(getComputedStyle(one).color)), b = light(behind(one));
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < 4.5) found.push([text.slice(0, 40), contrast.toFixed(2)]);
    }
    return found;
})()"""


def test_it_fits_a_phone(hostile_pictures, tmp_path, worker_python, page):
    """360 pixels wide: the page never scrolls sideways, tables scroll in themselves; dark and light"""
    page.resize(360, 740, scale=2, mobile=True)
    with training(hostile_pictures, tmp_path, worker_python) as live:
        open_page(page, live.url)
        page.wait_for("document.querySelectorAll('#bad li').length == 3")
        page.evaluate("document.getElementById('batch').scrollIntoView()")
        page.wait_for(PICTURES)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert page.evaluate(TOO_WIDE) == []
        assert page.evaluate("document.querySelector('.wide').scrollWidth") > 360
        small = page.evaluate("Array.from(document.querySelectorAll('button, summary')).filter(one => "
                              "one.getClientRects().length && one.getBoundingClientRect().height < 24).length")
        assert small == 0, "buttons too small for a finger"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(scheme, hostile_pictures, tmp_path, worker_python, page):
    """A contrast of at least 4.5 to 1"""
    page.prefer(color_scheme=scheme)
    with training(hostile_pictures, tmp_path, worker_python) as live:
        open_page(page, live.url)
        page.wait_for(PICTURES)
        page.wait_for("document.querySelectorAll('#bad li').length == 3")
        kill(worker_pids()[0])
        page.wait_for("document.querySelector('#events [data-kind=lost]')")
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, ground[4:-1].split(","))) < 200) == (scheme == "dark")
        assert page.evaluate(PALE) == []
        assert page.evaluate("document.getAnimations().length") == 0         # nothing moves, for anyone
    page.wait_for("document.getElementById('state').innerText.startsWith('no answer')")
    assert page.evaluate(PALE) == []


def test_by_keyboard_alone(pictures, tmp_path, worker_python, page):
    """Tab reaches every control and whatever scrolls, each shows that it has the focus, and Enter works"""
    with training(pictures, tmp_path, worker_python) as live:
        open_page(page, live.url)
        page.wait_for("document.querySelectorAll('#workers tbody tr').length == 2")
        page.wait_for(PICTURES + " == 8")
        page.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        assert page.evaluate("document.activeElement.getBoundingClientRect().width") > 100      # it can be seen
        page.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        seen, described = [], ("(one => one.tagName + ' ' + (one.id || one.getAttribute('aria-labelledby') "
                               "|| one.innerText))(document.activeElement)")
        while len(seen) < 40:
            page.press("Tab")
            here = page.evaluate(described)
            if here in seen or here.startswith("BODY"):
                break
            seen.append(here)
            style = page.evaluate("(s => [s.outlineStyle, s.outlineWidth])(getComputedStyle(document.activeElement))")
            assert style[0] == "solid" and style[1] == "2px", (here, style)
        assert {"BUTTON next", "DIV bad-title", "DIV events-title", "DIV workers-title", "BUTTON Worker",
                "BUTTON PID"} <= set(seen)
        page.evaluate("document.querySelectorAll('#workers thead button')[%d].focus()" % column(page, "PID"))
        for direction, key in (("descending", "Enter"), ("ascending", "Space")):
            page.press(key)
            page.wait_for("document.querySelectorAll('#workers thead th')[%d].getAttribute('aria-sort') == '%s'" % (
                column(page, "PID"), direction))
            pids = list(map(int, cells(page, column(page, "PID"))))
            assert pids == sorted(pids, reverse=direction == "descending")
        page.evaluate("document.getElementById('next').focus()")
        page.press("Space")
        page.wait_for("!(%s)" % SHOWN)
        assert page.evaluate("document.activeElement.id") == "next"      # the focus stays


def test_a_screen_reader_finds_its_way(pictures, tmp_path, worker_python, page):
    """Landmarks, headings without gaps, a name for each thing that takes the focus, one quiet live region"""
    with training(pictures, tmp_path, worker_python) as live:
        open_page(page, live.url)
        page.wait_for(PICTURES + " == 8")
        page.wait_for("document.getElementById('spoken').textContent == 'running'")
        nodes = page.command("Accessibility.getFullAXTree")["nodes"]

        def value(node, name):
            return node.get(name, {}).get("value")

        def has(node, name):
            return any(one["name"] == name and one["value"].get("value") for one in node.get("properties", ()))
        roles = {value(node, "role") for node in nodes}
        assert {"banner", "main", "contentinfo", "region", "progressbar", "table", "status"} <= roles
        assert not [node for node in nodes if has(node, "focusable") and not value(node, "name")
                    and value(node, "role") not in ("RootWebArea", "main")]
        assert not [node for node in nodes if value(node, "role") == "image" and not value(node, "name")]
        levels = page.evaluate("Array.from(document.querySelectorAll('h1, h2, h3')).filter(one => "
                               "one.getClientRects().length).map(one => Number(one.tagName[1]))")
        assert levels[0] == 1 and all(after - before <= 1 for before, after in zip(levels, levels[1:]))


# ------------------------------------------------------------------------------- answers that no run here would give

def answer_with(page, change, path="details.json"):
    """From now on, the page gets each answer at ``path`` as ``change(said)`` leaves it: a script before its own ones
    sees what the trainer says."""
    page.command("Page.addScriptToEvaluateOnNewDocument", source="""(() => {
        const real = window.fetch;
        window.fetch = async (path, how) => {
            const answer = await real(path, how);
            if (path !== %s || !answer.ok) return answer;
            const said = await answer.json();
            (%s)(said);
            return new Response(JSON.stringify(said));
        };
    })()""" % (json.dumps(path), change))


#: Replaces each text in an answer, wherever it is, by one that does something if it becomes HTML or an attribute.
EVIL = """said => {
    let number = 0;
    const evil = value => typeof value === 'string' ? (number += 1, `<img src="//stoker.example/${number}" `
        + `onerror="document.title='alert'"><script>document.title='alert'</script>" onload="alert(1)\u202e\n`)
        : value && typeof value === 'object' ? (Object.keys(value).forEach(one => value[one] = evil(value[one])), value)
        : value;
    evil(said);
}"""


def test_no_text_of_an_answer_becomes_html(hostile_pictures, tmp_path, worker_python, page):
    """Whatever text the trainer sends, in whichever field, it stays text"""
    answer_with(page, EVIL)
    answer_with(page, EVIL, "batch.json")
    with training(hostile_pictures, tmp_path, worker_python) as live:
        open_page(page, live.url)
        page.wait_for("document.querySelectorAll('#bad li').length == 3")
        page.wait_for("document.querySelectorAll('#samples li').length == 8")
        page.wait_for("document.querySelectorAll('#workers tbody tr').length == 2")
        shown = page.text()
        assert shown.count("<script>document.title='alert'</script>") > 30
        assert page.evaluate("document.images.length + document.querySelectorAll('main script, [onload]').length") == 0
        assert page.evaluate("document.title") != "alert" and "\u202e" not in shown
        assert not [url for url in page.requests() if not url.startswith(live.url + "/")]


def test_a_large_fleet(pictures, tmp_path, worker_python, page):
    """500 of 612 workers: the table shows fifty, all with a button, and says how many there are"""
    answer_with(page, """said => {
        const row = said.worker_table[0] || {name: 'w', host: 'h', pid: 1, state: 'works', versions: '', stages_ms: {}};
        said.worker_table = Array.from({length: 500}, (_, i) => Object.assign({}, row, {
            name: 'host-' + i + ':1/0', pid: 5000 - i, samples_per_s: i % 7}));
        said.states = {works: 610, silent: 2};
    }""")
    with training(pictures, tmp_path, worker_python) as live:
        open_page(page, live.url)
        page.wait_for("document.querySelectorAll('#workers tbody tr').length == 50")
        assert "2 silent, 610 work; the table has 500 of them" in page.text("#workers-note")
        assert page.text("#alive") == "612" and page.text("#more") == "Show all 500"
        assert cells(page, 0)[:3] == ["host-0:1/0", "host-1:1/0", "host-2:1/0"]      # not 0, 1, 10
        page.evaluate("document.getElementById('more').click()")
        page.wait_for("document.querySelectorAll('#workers tbody tr').length == 500")
        page.evaluate("document.querySelectorAll('#workers thead button')[%d].click()" % column(page, "images/s"))
        rates = list(map(float, cells(page, column(page, "images/s"))))
        assert rates == sorted(rates, reverse=True)
        page.resize(360, 740)
        assert page.evaluate("document.documentElement.scrollWidth") == 360


@pytest.mark.parametrize("change", [
    "said => { for (const name of Object.keys(said)) if (!['run', 'step', 'steps', 'now_s'].includes(name)) "
    "said[name] = null; }",
    "said => { for (const name of Object.keys(said)) if (!['run', 'step', 'steps', 'now_s'].includes(name)) "
    "delete said[name]; }",
    "said => { said.worker_table = [{}]; said.events = [{}]; said.bad = {newest: [{}]}; said.history = {}; }",
], ids=["null", "missing", "empty"])
def test_figures_that_are_not_known(change, pictures, tmp_path, worker_python, page):
    """Whatever is missing is a dash, and the page goes on"""
    answer_with(page, change)
    with training(pictures, tmp_path, worker_python) as live:
        open_page(page, live.url)
        page.wait_for(STEP + " > 30")
        assert not [word for word in ("NaN", "undefined", "null", "[object") if word in page.text()]


def test_the_browser_of_these_tests_is_cut_off(nothing_left):
    """No test reaches anything but this host, and each request is recorded"""
    with Browser(os.environ["STOKER_TEST_CHROMIUM"]) as browser:
        page = browser.page()
        page.goto("data:text/html,<title>here</title><img src=http://stoker.example/picture.png>")
        assert page.evaluate("document.title") == "here"
        assert page.requests()[-1] == "http://stoker.example/picture.png"
        page.wait_for("document.images[0].complete && !document.images[0].naturalWidth")

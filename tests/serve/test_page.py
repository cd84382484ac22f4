"""The page: its HTML, and its behaviour in a browser."""

import csv
import io
import re
import shutil
import socket
import subprocess
import sys
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("gradio", reason="the extra `demo` is not installed")
from fastapi import FastAPI
from fastapi.testclient import TestClient

from pase_msa.errors import PaSEError
from pase_msa.media.example_clip import speak, write_clip
from pase_msa.media.timelines.files import read_segments
from pase_msa.serve.desk import Reading, Source, Ticket
from pase_msa.serve.hosts import HostCheck
from pase_msa.serve.page_parts import ENDINGS, several
from pase_msa.serve.predictor import Prediction
from pase_msa.serve.render import player, render_html
from pase_msa.serve.results import ClipResult, CurvePoint, UtteranceResult, WordInfluence
from pase_msa.task import Task
from tests.serve.conftest import SENTENCE

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of Gradio's own dependencies, at import
    from pase_msa.serve.page import Page
    from pase_msa.serve.page_server import _part, add_answers

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")


@pytest.fixture(scope="module")
def page(run):
    page = Page(run, max_seconds=20)
    yield page
    page.close()


@pytest.fixture(scope="module")
def client(page):
    """Recordings and answers; the page around them is served by a process of its own below."""
    app = FastAPI()
    add_answers(app, page)
    app.add_middleware(HostCheck, allowed_hosts=["localhost"], www_redirect=False)
    return TestClient(app, "http://localhost")


def done(ticket):
    until = time.monotonic() + 60
    while not ticket.done:
        assert time.monotonic() < until
        time.sleep(0.01)
    return ticket


@pytest.fixture(scope="module")
def answered(page, video):
    """The ticket of the video, when it has been read."""
    return done(page.hand_in("example", Source(video, upload=False), ["text", "audio"]))


@pytest.fixture(scope="module")
def answered_several(page, video, tmp_path_factory):
    """The ticket of the video and of a file that is none."""
    broken = tmp_path_factory.mktemp("several") / "broken.mp4"
    broken.write_bytes(b"no media")
    return done(page.desk.hand_in("several", [Source(video, upload=False), Source(broken)], without=(), words=False))


def toy_result(kind="regression"):
    score = kind == "regression"
    prediction = Prediction(
        "a",
        1.5 if score else None,
        None if score else "glad",
        0.75,
        {"text": 1.0, "audio": -0.25},
        {"sad": 0.3, "glad": 0.7},
    )
    words = [WordInfluence("<script>", 0.0, 0.5, 0.6), WordInfluence("fine", 0.5, 1.0, -0.2)]
    item = UtteranceResult(
        0.0, 2.0, "x", prediction, 0.75, words, [CurvePoint(0.5, 0.2), CurvePoint(1.0, 0.5)], ["text"], ["<b>note"]
    )
    return ClipResult("a", 2.0, prediction, 0.75, [item], {"words": 1.0})


def test_words_notes_and_paths_are_escaped():
    html = render_html(toy_result(), Task.regression(["text", "audio"], -3, 3))
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "<b>note" not in html
    assert "&quot;" in player('/a/"onerror=".mp4', video=True)


def test_the_curve_lies_where_its_times_and_values_are():
    html = render_html(toy_result(), Task.regression(["text", "audio"], -3, 3))
    (points,) = re.findall(r'polyline points="([^"]+)"', html)
    assert points == "25.00,46.67 50.00,41.67"  # half a second of two; 0.2 of -3 to 3, from above


def test_a_masked_modality_is_not_called_absent():
    task = Task.regression(["text", "audio"], -3, 3)
    absent = render_html(toy_result(), task)
    assert "absent</em>" in absent
    assert "masked" not in absent
    masked = render_html(replace(toy_result(), masked=["audio"]), task)
    assert "masked</em>" in masked
    assert "absent" not in masked


def test_without_influences_no_colour_is_explained():
    result, task = toy_result(), Task.regression(["text", "audio"], -3, 3)
    assert "pase-down" in render_html(result, task)
    item = result.utterances[0]
    words = list(item.words)
    for influence, sentence in ((0.0, "does not use the text"), (None, "was not computed")):
        item.words[:] = [replace(word, influence=influence) for word in words]
        html = render_html(result, task)
        assert "pase-down" not in html
        assert sentence in html


def test_classes_are_shown_with_their_probabilities():
    html = render_html(toy_result("classes"), Task.classification(["text", "audio"], ["sad", "glad"]))
    assert "glad</div>" in html
    assert "70%" in html


def test_the_page_shows_which_data_are_real(page):
    assert page.provenance() == "**Text: nothing <b>real</b>.** Untrained."


def test_the_result_changes_when_a_modality_is_masked(page, answered):
    player, both = page.show(answered.id)
    assert f'<video class="pase-media" controls playsinline preload="auto" src="/pase/clip/{answered.id}"' in player
    page.desk.mask(answered, ["audio"])
    _, text_only = page.show(done(answered).id)
    score = re.compile(r'pase-score \w+">([^<]+)')
    assert score.search(both)[1] != score.search(text_only)[1]
    page.desk.mask(answered, [])
    assert score.search(page.show(done(answered).id)[1])[1] == score.search(both)[1]


def test_a_page_without_a_clip_says_so(page):
    for kind, sentence in (("video", "There is no clip yet"), ("text", "There is no text yet")):
        with pytest.raises(PaSEError, match=sentence):
            page.hand_in(kind, Source(None, " "), ["text", "audio"])
    with pytest.raises(PaSEError, match="Nothing is left"):
        page.hand_in("text", Source(None, "Fine."), [])
    assert "no longer kept" in page.show("of yesterday")[1]
    assert "no longer kept" in page.show_several("of yesterday")


def test_the_table_of_several_clips_has_their_notes():
    ticket = Ticket("x", "several", [Reading("a.wav", result=toy_result())])
    assert "&lt;b&gt;note" in several(ticket, Task.regression(["text", "audio"], -3, 3), "/pase")


def test_several_clips_become_a_table(page, client, answered_several):
    html = several(answered_several, page.predictor.predictor.model.task, "/pase")
    assert 'data-label="confidence"' in html
    assert "broken.mp4 cannot be read" in html
    first, second = csv.DictReader(io.StringIO(client.get(f"/pase/answer/{answered_several.id}/all.csv").text))
    assert f"{float(first['score']):+.2f}" in html
    assert second["clip"] == "broken.mp4"
    assert "cannot be read" in second["problem"]
    assert second["text"] == ""
    assert first["problem"] == ""
    assert len(client.get(f"/pase/answer/{answered_several.id}/all.json").json()) == 1
    assert client.get(f"/pase/answer/{answered_several.id}/1.csv").status_code == 422  # the one that failed
    assert client.get(f"/pase/answer/{answered_several.id}/0.srt").status_code == 200


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_answer_can_be_downloaded_in_every_format(page, client, answered, ending, tmp_path):
    assert f"/pase/answer/{answered.id}/0{ending}" in page.show(answered.id)[1]
    response = client.get(f"/pase/answer/{answered.id}/0{ending}")
    assert response.status_code == 200
    assert f'filename="delighted{ending}"' in response.headers["content-disposition"]
    assert response.headers["content-disposition"].endswith(f"filename*=UTF-8''delighted{ending}")
    assert response.headers["cache-control"] == "no-store"
    assert "wonderful" in response.text
    assert "pase_answer" not in response.text  # no folder of the server
    if ending in (".eaf", ".srt", ".vtt", ".TextGrid"):
        (tmp_path / f"a{ending}").write_bytes(response.content)
        assert any("wonderful" in (segment.text or "") for segment in read_segments(tmp_path / f"a{ending}"))


@pytest.mark.parametrize("file", ["0.exe", "1.csv", "-1.csv", "0", "all.srt", "..%2f0.csv", "0.csv.csv"])
def test_files_that_are_none_of_an_answer_are_refused(client, answered, file):
    assert client.get(f"/pase/answer/{answered.id}/{file}").status_code in (404, 422)
    assert client.get(f"/pase/answer/{'x' * 22}/0.csv").status_code == 404


def test_a_player_gets_the_part_that_it_asks_for(client, answered, video):
    content = video.read_bytes()
    whole = client.get(f"/pase/clip/{answered.id}")
    assert (whole.content, whole.headers["content-type"]) == (content, "video/mp4")
    part = client.get(f"/pase/clip/{answered.id}", headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, content[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(content)}"
    assert client.get("/pase/clip/other").status_code == 404
    assert client.get(f"/pase/clip/{answered.id}", headers={"Host": "evil.example"}).status_code == 400


@pytest.mark.parametrize(
    ("wanted", "status", "content"),
    [
        ("bytes=2-", 206, b"cdefghij"),
        ("bytes=-3", 206, b"hij"),
        ("bytes=-99", 206, b"abcdefghij"),
        ("bytes=8-99", 206, b"ij"),
        ("bytes=10-", 416, b""),
        ("bytes=5-2", 416, b""),
        ("bytes=-", 200, b"abcdefghij"),
        ("lines=1-2", 200, b"abcdefghij"),
        (None, 200, b"abcdefghij"),
    ],
)
def test_ranges_of_a_recording(wanted, status, content):
    response = _part(b"abcdefghij", wanted, "audio/wav")
    assert (response.status_code, response.body) == (status, content)


def test_two_speakers_are_two_rows():
    result, task = toy_result(), Task.regression(["text", "audio"], -3, 3)
    one = result.utterances[0]
    result.utterances = [replace(one, speaker="Anna"), replace(one, start=2.0, end=3.0, speaker="<Ben>")]
    html = render_html(result, task)
    assert html.count('class="pase-plot"') == 2
    assert "67% of the talk" in html
    assert "&lt;Ben&gt;" in html
    result.utterances = [replace(item, speaker="Anna") for item in result.utterances]
    assert render_html(result, task).count('class="pase-plot"') == 1


class Browser:
    """A phone's browser on the page, with a camera that shows a dial and a microphone in which somebody speaks."""

    def __init__(self, driver):
        self.driver = driver

    def soon(self, look, seconds=60):
        """What `look` gives as soon as it is true; errors while the page is drawn are tried again."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                if value := look():
                    return value
            except Exception:
                pass
            time.sleep(0.1)
        raise AssertionError(f"not within {seconds} s: {self.text('body')[:500]}")

    def run(self, script):
        return self.driver.execute_script(script)

    def all(self, place):
        return self.driver.find_elements("css selector", place)

    def text(self, place):
        return self.driver.find_element("css selector", place).text

    def press(self, place, text=None):
        """Press the first visible element of a place, with a text on it."""

        def element():
            return next(e for e in self.all(place) if e.is_displayed() and text in (None, e.text.strip()))

        self.soon(element).click()

    def mask(self, number):
        """Clear or set the box of a modality."""
        self.run(f"document.querySelectorAll('#pase-modalities input')[{number}].click()")

    def media(self):
        return self.driver.find_element("css selector", ".pase-media").get_attribute("src")

    def videos(self):
        """How many clips can be played on the page."""
        return self.run("return document.querySelectorAll('video[src]').length")


@pytest.fixture(scope="module")
def port(run):
    """Of the page, which a process of its own serves: Gradio leaves event loops behind."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "pase_msa", "demo", str(run), "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert f"http://127.0.0.1:{port}" in server.stdout.readline()
        yield port
    finally:
        server.terminate()
        server.communicate()


@pytest.fixture(scope="module")
def chromium(port, tmp_path_factory):
    """One Chromium for all tests, since it takes seconds to start."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no Chromium with its driver is installed")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    sound, rate = speak(SENTENCE)
    sound = np.concatenate([sound, np.zeros(rate, np.int16)])
    speech = write_clip(tmp_path_factory.mktemp("speech") / "speech.wav", sound=sound, rate=rate)  # it is repeated
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    camera += [f"--use-file-for-fake-audio-capture={speech}"]
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--mute-audio", *camera):
        options.add_argument(word)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    try:
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
        yield driver
    finally:
        driver.quit()
        driver.service.stop()


@pytest.fixture
def browser(chromium, port):
    chromium.get(f"http://127.0.0.1:{port}")
    yield Browser(chromium)
    severe = [line["message"] for line in chromium.get_log("browser") if line["level"] == "SEVERE"]
    assert [message for message in severe if "favicon" not in message] == []


def test_in_a_browser_an_example_plays_and_a_modality_is_masked(browser):
    browser.press("button", "delighted")
    both = browser.soon(lambda: browser.text(".pase-score"))
    assert browser.run("return document.documentElement.scrollWidth <= 390")
    # the cursor follows the clip, and a click on a word takes the clip there
    browser.run("document.querySelector('.pase-media').currentTime = 1.0")
    place = "return parseFloat(document.querySelector('.pase-cursor').style.left)"
    assert browser.soon(lambda: browser.run(place)) == pytest.approx(100 / 3.1, abs=15)
    browser.run("document.querySelectorAll('.pase-word')[4].click()")
    now = "return document.querySelectorAll('.pase-word')[4].classList.contains('now')"
    assert browser.soon(lambda: browser.run(now))
    browser.mask(1)
    assert browser.soon(lambda: "masked" in browser.text(".pase-result"))
    assert "absent" not in browser.text(".pase-result")
    assert browser.text(".pase-score") != both
    browser.mask(1)
    assert browser.soon(lambda: browser.text(".pase-score") == both)


def test_in_a_browser_a_clip_is_recorded_and_read_again(browser):
    browser.press("#pase-video [aria-label='Capture from camera']")
    browser.press("#pase-video .upload-container button")  # asks for the camera
    browser.soon(lambda: browser.run("return document.querySelector('#pase-video video').videoWidth"))
    browser.press("#pase-video .capture-button")
    browser.soon(lambda: "Stop" in browser.text("#pase-video .capture-button"))
    time.sleep(3)
    browser.press("#pase-video .capture-button")
    browser.soon(lambda: browser.all("#pase-video video[src]"))
    assert not browser.all("[aria-label*='hare']")  # to a server elsewhere
    browser.press("#pase-go-video")
    browser.soon(lambda: browser.text(".pase-result"))
    # the clip has moved to the player, and stands on the page once
    assert browser.soon(lambda: browser.videos() == 1)
    media = browser.media()
    browser.run("document.querySelector('.pase-result').dataset.first = true")
    browser.press("#pase-go-video")  # the same clip again, since its input is empty
    # a second result takes the place of the first, whose text may be the same
    assert browser.soon(lambda: browser.run("return !document.querySelector('.pase-result').dataset.first"))
    assert browser.soon(lambda: browser.text(".pase-score"))
    assert browser.media() != media
    assert browser.videos() == 1


def test_in_a_browser_several_clips_fit_a_phone_and_come_back_after_a_reload(browser, video, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no media")
    copies = [str(shutil.copy(video, tmp_path / f"{name}.mp4")) for name in ("first", "second", "third")]
    browser.press("[role=tab]", "Several clips")
    browser.soon(lambda: browser.all("#pase-files input[type=file]"))[0].send_keys("\n".join([str(broken), *copies]))
    browser.soon(lambda: "third" in browser.text("#pase-files"))
    browser.press("#pase-go-many")
    percent = "return Number(document.querySelector('.pase-bar').getAttribute('aria-valuenow'))"
    first = browser.soon(lambda: browser.run(percent))
    assert browser.soon(lambda: browser.run(percent) > first)
    assert "ticket=" in browser.driver.current_url
    browser.driver.refresh()
    browser.driver.get_log("browser")  # requests that the reload has ended
    assert browser.soon(lambda: browser.run(percent) > first)  # the work went on meanwhile
    browser.soon(lambda: "Download all" in browser.text("#pase-several"))
    assert len(browser.all("#pase-several tbody tr")) == 4
    assert browser.run("return document.documentElement.scrollWidth <= 390")
    assert browser.run("return document.querySelector('.pase-table').scrollWidth <= 390")


def test_in_a_browser_the_microphone_is_predicted_while_somebody_speaks(browser):
    browser.press("[role=tab]", "Live")
    browser.press("#pase-live-start")
    browser.soon(lambda: "wonderful" in browser.text("#pase-live-said li"))
    assert re.search(r"[+\u2212]\d\.\d\d", browser.text("#pase-live-now .pase-score"))
    assert "audio" in browser.text("#pase-live-now .pase-confidence")
    assert browser.run("return document.documentElement.scrollWidth <= 390")
    browser.press("#pase-live-stop")
    assert browser.soon(lambda: browser.text("#pase-live-state") == "Stopped.")
    assert browser.run("return document.getElementById('pase-live-start').disabled") is False

"""The page: its HTML, and its behaviour in a browser."""

import csv
import re
import shutil
import socket
import subprocess
import sys
import time
import warnings
from dataclasses import replace

import pytest

pytest.importorskip("gradio", reason="the extra `demo` is not installed")
from pase_msa.media.example_clip import speak, write_clip
from pase_msa.serve.predictor import Prediction
from pase_msa.serve.render import player, render_html
from pase_msa.serve.results import ClipResult, CurvePoint, UtteranceResult, WordInfluence
from pase_msa.task import Task
from tests.serve.conftest import SENTENCE

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of Gradio's own dependencies, at import
    from pase_msa.serve.page import Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")


@pytest.fixture(scope="module")
def page(run):
    page = Page(run, max_seconds=20)
    yield page
    page.close()


def quiet(*given, **named):
    """In place of Gradio's progress."""


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
    assert "&quot;" in player('/a/"onerror=".mp4', video=True) or "%22" in player('/a/"onerror=".mp4', video=True)


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


def test_the_result_changes_when_a_modality_is_masked(page, video):
    player, clips, both = page.read(str(video), "", ["text", "audio"], quiet)
    assert "<video" in player
    text_only = page.predict(clips, ["text"])
    score = re.compile(r'pase-score \w+">([^<]+)')
    assert score.search(both)[1] != score.search(text_only)[1]
    assert "Nothing is left" in page.predict(clips, [])


def test_a_mistake_is_one_sentence_without_folders(page, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no media")
    _, clips, sentence = page.read(str(broken), "", ["text"], quiet)
    assert clips == []
    assert "broken.mp4 cannot be read" in sentence
    assert str(tmp_path) not in sentence
    assert "There is no clip yet" in page.read(None, " ", ["text"], quiet)[2]


def test_several_clips_become_a_table(page, video, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no media")
    table, target = page.many([str(video), str(broken)], quiet)
    with open(target, newline="") as stream:
        first, second = csv.DictReader(stream)
    assert float(first["score"]) == pytest.approx(table[0][page.columns().index("score")], abs=1e-3)
    assert second["clip"] == "broken.mp4"
    assert "cannot be read" in second["text"]


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


@pytest.fixture
def browser(port, tmp_path):
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no Chromium with its driver is installed")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    sound, rate = speak(SENTENCE)
    speech = write_clip(tmp_path / "speech.wav", sound=sound, rate=rate)  # the microphone repeats it
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    camera += [f"--use-file-for-fake-audio-capture={speech}"]
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--mute-audio", *camera):
        options.add_argument(word)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
        driver.get(f"http://127.0.0.1:{port}")
        yield Browser(driver)
        severe = [line["message"] for line in driver.get_log("browser") if line["level"] == "SEVERE"]
        assert [message for message in severe if "favicon" not in message] == []
    finally:
        driver.quit()
        driver.service.stop()


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
    browser.press("#pase-go-video")
    browser.soon(lambda: browser.text(".pase-result"))
    # the clip has moved to the player, and stands on the page once
    assert browser.soon(lambda: browser.videos() == 1)
    media = browser.media()
    browser.run("document.querySelector('.pase-result').dataset.first = true")
    browser.press("#pase-go-video")  # the same clip again, since its input is empty
    # a second result takes the place of the first, whose text may be the same
    assert browser.soon(lambda: browser.run("return !document.querySelector('.pase-result').dataset.first"))
    assert browser.text(".pase-score")
    assert browser.media() == media

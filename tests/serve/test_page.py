"""The page: what it shows, and in a browser what it does."""

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
from pase_msa.serve.answers import ClipAnswer, Moment, UtteranceAnswer, WordInfluence
from pase_msa.serve.predictor import Prediction
from pase_msa.serve.render import player, render
from pase_msa.task import Task
from tests.serve.conftest import SENTENCE

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what Gradio's own dependencies have to say at import
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


def toy_answer(kind="regression"):
    score = kind == "regression"
    said = Prediction(
        "a",
        1.5 if score else None,
        None if score else "glad",
        0.75,
        {"text": 1.0, "audio": -0.25},
        {"sad": 0.3, "glad": 0.7},
    )
    words = [WordInfluence("<script>", 0.0, 0.5, 0.6), WordInfluence("fine", 0.5, 1.0, -0.2)]
    item = UtteranceAnswer(
        0.0, 2.0, "x", said, 0.75, words, [Moment(0.5, 0.2), Moment(1.0, 0.5)], ["text"], ["<b>note"]
    )
    return ClipAnswer("a", 2.0, said, 0.75, [item], {"words": 1.0})


def test_whatever_was_said_is_escaped():
    html = render(toy_answer(), Task.regression(["text", "audio"], -3, 3))
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "<b>note" not in html
    assert "&quot;" in player('/a/"onerror=".mp4', video=True) or "%22" in player('/a/"onerror=".mp4', video=True)


def test_the_curve_lies_where_its_times_and_values_are():
    html = render(toy_answer(), Task.regression(["text", "audio"], -3, 3))
    (points,) = re.findall(r'polyline points="([^"]+)"', html)
    assert points == "25.00,46.67 50.00,41.67"  # half a second of two; 0.2 of -3 to 3, from above
    assert "absent" in html


def test_where_no_word_counted_no_colour_is_explained():
    answer, task = toy_answer(), Task.regression(["text", "audio"], -3, 3)
    assert "pase-down" in render(answer, task)
    item = answer.utterances[0]
    item.words[:] = [replace(word, influence=0.0) for word in item.words]
    html = render(answer, task)
    assert "pase-down" not in html
    assert "the text was not used" in html


def test_classes_are_shown_with_their_probabilities():
    html = render(toy_answer("classes"), Task.classification(["text", "audio"], ["sad", "glad"]))
    assert "glad</div>" in html
    assert "70%" in html


def test_the_page_says_what_is_real(page):
    assert page.made() == "**Text: nothing <b>real</b>.** Untrained."


def test_an_answer_changes_when_a_modality_is_withheld(page, video):
    shown, clips, both = page.read(str(video), "", ["text", "audio"], quiet)
    assert "<video" in shown
    alone = page.answer(clips, ["text"])
    score = re.compile(r'pase-score \w+">([^<]+)')
    assert score.search(both)[1] != score.search(alone)[1]
    assert "Nothing is left" in page.answer(clips, [])


def test_mistakes_get_a_sentence_without_folders(page, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no media")
    _, clips, said = page.read(str(broken), "", ["text"], quiet)
    assert clips == []
    assert "broken.mp4 cannot be read" in said
    assert str(tmp_path) not in said
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


@pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="no Chromium with its driver is installed")
def test_in_a_browser_on_a_phone(run, request, tmp_path):
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    sound, rate = speak(SENTENCE)
    heard = write_clip(tmp_path / "heard.wav", sound=sound, rate=rate)  # by the microphone, again and again
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    camera += [f"--use-file-for-fake-audio-capture={heard}"]
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--mute-audio", *camera):
        options.add_argument(word)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # in a process of its own: Gradio leaves event loops behind
    command = [sys.executable, "-m", "pase_msa", "demo", str(run), "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    request.addfinalizer(lambda: (server.terminate(), server.communicate()))
    assert f"http://127.0.0.1:{port}" in server.stdout.readline()
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    request.addfinalizer(lambda: (browser.quit(), browser.service.stop()))

    def soon(look, seconds=60):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                if found := look():
                    return found
            except Exception:  # the page is being drawn
                pass
            time.sleep(0.1)
        raise AssertionError(f"not within {seconds} s: {browser.find_element('css selector', 'body').text[:500]}")

    def button(text):
        return next(item for item in browser.find_elements("css selector", "button") if item.text.strip() == text)

    def score():
        return browser.find_element("css selector", ".pase-score").text

    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    browser.get(f"http://127.0.0.1:{port}")
    soon(lambda: button("delighted")).click()
    both = soon(score)
    assert browser.execute_script("return document.documentElement.scrollWidth <= 390")
    # the cursor follows the clip, and a click on a word takes the clip there
    browser.execute_script("document.querySelector('.pase-media').currentTime = 1.0")
    place = "return parseFloat(document.querySelector('.pase-cursor').style.left)"
    assert soon(lambda: browser.execute_script(place)) == pytest.approx(100 / 3.1, abs=15)
    browser.execute_script("document.querySelectorAll('.pase-word')[4].click()")
    now = "return document.querySelectorAll('.pase-word')[4].classList.contains('now')"
    assert soon(lambda: browser.execute_script(now))
    # a modality is withheld
    browser.execute_script("document.querySelectorAll('#pase-kept input')[1].click()")
    assert soon(lambda: "absent" in browser.find_element("css selector", ".pase-answer").text)
    assert score() != both

    browser.execute_script("document.querySelectorAll('#pase-kept input')[1].click()")
    assert soon(lambda: score() == both)

    # a clip is recorded: Chromium's own camera shows a dial, and somebody speaks
    def press(place):
        soon(lambda: next(e for e in browser.find_elements("css selector", place) if e.is_displayed())).click()

    def media():
        return browser.find_element("css selector", ".pase-media").get_attribute("src")

    def answer():
        return browser.find_element("css selector", "#pase-answer").text

    before, said = media(), answer()
    press("#pase-video [aria-label='Capture from camera']")
    press("#pase-video .upload-container button")  # asks for the camera
    soon(lambda: browser.execute_script("return document.querySelector('#pase-video video').videoWidth"))
    press("#pase-video .capture-button")
    soon(lambda: "Stop" in browser.find_element("css selector", "#pase-video .capture-button").text)
    time.sleep(3)
    press("#pase-video .capture-button")
    soon(lambda: browser.find_element("css selector", "#pase-video video[src]"))
    press("#pase-go-video")
    assert soon(lambda: media() != before)
    assert soon(lambda: answer() != said and score())
    severe = [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert [line for line in severe if "favicon" not in line["message"]] == []

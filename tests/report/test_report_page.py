"""The page of a run: what is in it, and what it does in a browser."""

import io
import json
import re
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from diffsim.report import html, pages
from diffsim.report.film import placed
from diffsim.report.track import tracks

TARGET = (0.9, 0.0, 0.76)
LANDINGS = np.array([[0.8, 0.1, 0.78], [1.9, 0.0, 0.02], [np.nan] * 3])


@pytest.fixture(scope="module")
def page(rally, tmp_path_factory):
    landings = LANDINGS, np.array([True, False, False])
    replay = pages.rallies(
        rally.world, rally.rollouts, rally.path, targets=TARGET, landings=landings
    )
    rows = [["score", ("0.2", 0.2)], ["pathwise", ("10", 10.0)], ["spsa", np.nan]]
    table = html.sortable_table(["method", "bias"], rows)
    file = tmp_path_factory.mktemp("page") / "report.html"
    return html.write(file, "A <run>", {"Replay": replay, "Methods": table})


def film(page) -> dict:
    found = re.search(r'<script type="application/json">(.*?)</script>', page.read_text())
    assert found is not None
    return json.loads(found[1])


def test_a_page_holds_all_it_needs(page, rally):
    text = page.read_text()
    assert page.stat().st_size < 8e6
    assert "<h1>A &lt;run&gt;</h1>" in text
    assert "default-src 'none'" in text  # the browser itself asks no network
    assert "three.js authors" in text  # the licence is in the page
    shown = film(page)
    assert [len(one["hits"]) for one in shown["rallies"]] == [2, 2]
    assert [hit["surface"] for hit in shown["rallies"][0]["hits"]] == ["table", "paddle"]
    assert shown["targets"] == [list(TARGET)]
    assert [landing["at"] for landing in shown["landings"]] == LANDINGS[:2].tolist()
    first = shown["rallies"][0]
    at = first["time"].index(0.6)  # the impact itself is a point of the curve
    np.testing.assert_allclose(first["ball"][at], tracks(rally.one())[0](0.6)[0], atol=1e-4)
    frames = np.array(first["paddles"][0])
    np.testing.assert_allclose(frames[:, 0], -2.272 + 1.5 * np.array(first["frames"]), atol=1e-4)


def test_a_quaternion_turns_as_its_matrix():
    """A quarter turn about z: (0, 0, sin 45°, cos 45°)."""
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    expected = [1, 2, 3, 0, 0, 0.5**0.5, 0.5**0.5]
    np.testing.assert_allclose(placed(np.array([1, 2, 3]), turn), expected, atol=1e-12)


def test_a_page_has_another_ending(tmp_path):
    with pytest.raises(ValueError, match=r"expected a name ending in \.html, got 'a\.htm'"):
        html.write(tmp_path / "a.htm", "a", {})


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("no chromium with its chromedriver is installed")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in ("headless=new", "no-sandbox", "enable-unsafe-swiftshader", "window-size=500,700"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(driver)
    found = webdriver.Chrome(options=options, service=service)
    yield found
    found.quit()


def test_the_page_plays_in_a_browser(browser, page, rally, tmp_path):
    browser.get(page.as_uri())

    def state() -> dict:
        return browser.execute_script("return {...document.querySelector('.replay').dataset}")

    def ball() -> np.ndarray:
        return np.array([float(x) for x in state()["ball"].split()])

    def set_to(name, value):
        browser.execute_script(
            "const e = document.querySelector(arguments[0]); e.value = arguments[1];"
            "e.dispatchEvent(new Event('input')); e.dispatchEvent(new Event('change'));",
            f".replay {name}",
            value,
        )

    def picture() -> np.ndarray:
        shot = browser.find_element("css selector", ".replay canvas").screenshot_as_png
        return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)

    for number, track in enumerate(tracks(rally.rollouts)):  # scrubbing sets the time
        set_to(".rally", number)
        assert float(state()["time"]) == 0
        set_to(".scrub", 0.5)
        np.testing.assert_allclose(ball(), track(0.5)[0], atol=1e-3)
        assert state()["hits"] == "1"
    still = picture()
    assert browser.find_element("css selector", ".replay .key").text.split("\n")[-3:] == [
        "ball", "spin axis", "target"
    ]  # fmt: skip
    assert len(np.unique(still.reshape(-1, 3), axis=0)) > 50  # surfaces, ball, cloud: not empty
    set_to(".view", "0 -0.001 1")
    assert np.mean(np.abs(picture() - still).sum(axis=2) > 60) > 0.005  # seen from elsewhere

    set_to(".speed", "0.1")
    browser.find_element("css selector", ".play").click()
    begin = float(state()["time"])
    time.sleep(0.4)
    assert state()["playing"] == "true"
    assert begin < float(state()["time"]) < begin + 0.5  # a tenth of the clock's speed
    set_to(".speed", "2")
    deadline = time.monotonic() + 10
    while state()["playing"] == "true" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert float(state()["time"]) == pytest.approx(0.8)  # it ends at the end

    def column() -> list[str]:
        return [e.text for e in browser.find_elements("css selector", "tbody td:first-child")]

    head = browser.find_element("css selector", ".sortable th:last-child")
    head.click()
    assert column() == ["score", "pathwise", "spsa"]  # by number, not by text; missing ones last
    head.click()
    assert column() == ["pathwise", "score", "spsa"]
    asked = browser.execute_script(
        "return performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:'))"
    )
    assert asked == []
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []

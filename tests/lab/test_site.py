"""The report: data in, pages out; and the pages in a real headless browser."""

import json
import math
import re
import shutil

import pytest

from neurarium.lab import Bars, Curve, Heatmap, RequestError, Scatter
from neurarium.lab.site import ArmRow, ClaimRow, PaperPage, build_site
from neurarium.lab.site.build import number, script
from neurarium.lab.site.charts import chart, interval_svg
from neurarium.lab.site.curves import bands, mean_map, thin

HOSTILE = '<script>document.title = "broken"</script> & "quotes"'


def page(slug="first", **changes):
    curves = {
        arm: {
            seed: [
                {"step": t, "loss": math.exp(-t * rate) + seed / 50, "layer": t % 3, "size": t - 5.0} for t in range(12)
            ]
            for seed in range(3)
        }
        for arm, rate in (("plain", 0.1), ("idea", 0.4))
    }  # fmt: skip
    content = {
        "slug": slug, "title": f"Paper {slug}", "authors": "Somebody et al.", "year": 2019, "arxiv": "1234.5678",
        "room": "learning", "summary": "It works.", "description": "First.\n\nSecond\nline.",
        "claims": [
            ClaimRow("it helps", "Fig. 1", "a[x − y] > 0.1", "reproduced", 0.3, 0.2, 0.4, 0.1, ">", 3),
            ClaimRow("it is free", "Fig. 2", "b < 1", "undecided", 0.9, None, math.inf, 1.0, "<", 1),
            ClaimRow("it scales", "Fig. 3", "c > 1", None, None, None, None, None, ">", 0),
        ],
        "arms": [
            ArmRow("plain", {"rate": 0.1, "depth": 3}, {"accuracy": (0.8, 0.7, 0.9, 3)}, 1.5, 200.0),
            ArmRow("idea", {"rate": 0.4, "depth": 3}, {"accuracy": (0.9, 0.88, 0.92, 3)}, 2.5, 210.0),
        ],
        "figures": [
            Curve("Loss falls", x="step", y="loss", log_y=True),
            Curve("By layer", x="step", y="loss", series="layer"),
            Bars("Accuracy", metric="accuracy"),
            Scatter("Accuracy and cost", x="seconds", y="accuracy"),
            Heatmap("Sizes", x="step", y="layer", value="size"),
        ],
        "curves": curves, "environment": {"torch": "2"}, "components": [("learning.thing", "file:///tmp/thing.py")],
        "code_url": "file:///tmp/study.py", "scale": "small", "scope": "measured", "assumption": "",
        "seconds_total": 12.0, "fingerprint": "abc", "stale": False, "failures": [],
    }  # fmt: skip
    return PaperPage(**{**content, **changes})


def bare(slug, room):
    claims = [ClaimRow("c", "s", "p > 0", None, None, None, None, None, ">", 0)]
    empty = {"arms": [], "figures": [], "curves": {}, "environment": {}, "components": []}
    return page(slug, room=room, year=2001, claims=claims, seconds_total=0.0, **empty)


@pytest.fixture
def site(tmp_path):
    pages = [
        page(),
        page("second", room="layers", year=2005, title=HOSTILE, summary=HOSTILE, assumption=HOSTILE, scope="mechanism",
             failures=[("idea", 1, HOSTILE)], stale=True),
        bare("third", "continual"),
    ]  # fmt: skip
    return build_site(pages, tmp_path / "site", version="1").parent


def test_bands_are_means_over_seeds_with_students_interval():
    rows = {seed: [{"x": 0, "y": float(seed)}, {"x": 1, "y": 5.0}] for seed in range(3)}
    (band,) = bands(rows, "x", "y")
    assert band.x == [0.0, 1.0]
    assert band.mean == [1.0, 5.0]
    assert band.high[0] - band.mean[0] == pytest.approx(4.302653 / math.sqrt(3), rel=1e-5)
    assert (band.low[1], band.high[1]) == (5.0, 5.0)


def test_bands_split_by_series_in_natural_order_and_average_repeats():
    rows = {
        0: [{"x": 0, "y": 1.0, "k": 10}, {"x": 0, "y": 3.0, "k": 10}, {"x": 0, "y": 7.0, "k": 9}, {"x": 0, "y": 1.0}]
    }
    found = bands(rows, "x", "y", "k")
    assert [(b.name, b.mean) for b in found] == [("9", [7.0]), ("10", [2.0])]
    assert bands(rows, "x", "nothing") == []


def test_maps_and_thinning():
    rows = {0: [{"x": 0, "y": 0, "v": 1.0}], 1: [{"x": 0, "y": 0, "v": 3.0}, {"x": 1, "y": 0, "v": math.nan}]}
    assert mean_map(rows, "x", "y", "v") == [(0.0, 0.0, 2.0)]
    assert thin(range(1000), 5)[::4] == [0, 999]


def test_every_kind_of_figure_is_drawn_and_missing_data_is_left_out():
    drawn = [chart(page(), figure) for figure in page().figures]
    assert [len(figure["charts"]) for figure in drawn] == [1, 2, 1, 1, 2]
    assert chart(page(), Curve(x="step", y="unknown")) is None
    json.dumps(drawn, allow_nan=False)
    line = drawn[0]["charts"][0]["option"]["series"][1]
    assert line["data"][0] == [0.0, pytest.approx(1.02)]


def test_an_arm_has_one_colour_on_a_page():
    curve, bar = (
        chart(page(), figure)["charts"][0]["option"]["series"] for figure in (page().figures[0], page().figures[2])
    )
    lines = {s["name"]: s["itemStyle"]["color"] for s in curve if s.get("type") == "line"}
    assert [point["itemStyle"]["color"] for point in bar[0]["data"]] == [lines["plain"], lines["idea"]]


def test_the_interval_lies_on_the_right_side_of_the_margin():
    svg = interval_svg(0.3, 0.2, 0.4, 0.1, ">")
    at = float(re.search(r'cx="([\d.]+)"', svg)[1])
    assert at > 110
    assert float(re.search(r'cx="([\d.]+)"', interval_svg(0.0, -0.1, 0.05, 0.1, ">"))[1]) < 110
    assert interval_svg(None, None, None, 0.1, ">") == ""


def test_what_is_embedded_cannot_break_out():
    assert "</script>" not in script({"a": "</script>"})
    assert json.loads(script([1.0, math.nan, math.inf, -math.inf])) == [1.0, None, None, None]
    assert number(math.inf) == "∞"
    assert number(None) == "–"


def test_links_resolve_and_text_is_escaped(site):
    for file in site.glob("*.html"):
        text = file.read_text(encoding="utf-8")
        assert "<script>document.title" not in text
        for target in re.findall(r'(?:href|src)="([^"#]+)"', text):
            if not re.match(r"(https?|data|file):", target):
                assert (site / target).exists(), target


def test_two_pages_of_one_name_are_refused(tmp_path):
    with pytest.raises(RequestError, match="same slug"):
        build_site([page(), page()], tmp_path / "site", version="1")
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="cannot be written"):
        build_site([page()], tmp_path / "file" / "site", version="1")


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium is installed; the report's browser tests need one (Debian: apt install chromium)")
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def tab(browser):
    context = browser.new_context(viewport={"width": 1000, "height": 800}, color_scheme="light")
    opened = context.new_page()
    opened.problems = []
    opened.on("console", lambda message: message.type == "error" and opened.problems.append(message.text))
    opened.on("pageerror", lambda error: opened.problems.append(str(error)))
    opened.on("request", lambda r: not r.url.startswith(("file:", "data:")) and opened.problems.append(r.url))
    yield opened
    assert opened.problems == []
    context.close()


def titles(tab):
    return [cell.inner_text() for cell in tab.locator("#papers tbody tr:not([hidden]) td:first-child a").all()]


def test_overview_sorts_searches_and_filters(tab, site):
    tab.goto((site / "index.html").as_uri())
    assert titles(tab)[0] == "Paper first"
    tab.get_by_role("button", name="Year").click()
    assert titles(tab) == ["Paper third", HOSTILE, "Paper first"]
    tab.get_by_role("button", name="Year").click()
    assert titles(tab)[0] == "Paper first"
    tab.fill("#search", "paper third")
    assert titles(tab) == ["Paper third"]
    assert tab.inner_text("#shown") == "1 shown"
    tab.fill("#search", "nothing like it")
    assert tab.is_visible("#none")
    tab.fill("#search", "")
    tab.select_option("#room", "layers")
    assert titles(tab) == [HOSTILE]
    tab.select_option("#room", "")
    tab.select_option("#verdict", "reproduced")
    assert len(titles(tab)) == 2


def test_pages_draw_their_figures_in_light_and_dark(tab, site):
    tab.goto((site / "index.html").as_uri())
    tab.get_by_role("link", name="Paper first").click()
    assert tab.title() == "Paper first · Neurarium"
    assert tab.locator(".chart:has(canvas)").count() == 7
    light = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    before = tab.locator(".chart canvas").first.screenshot()
    tab.click("#theme")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") != light
    assert tab.locator(".chart canvas").first.screenshot() != before
    tab.get_by_role("button", name="seconds").click()
    tab.locator(".chart").first.hover()


@pytest.mark.parametrize("name", ["index", "first", "second", "third"])
def test_pages_fit_a_telephone(tab, site, name):
    tab.set_viewport_size({"width": 360, "height": 640})
    tab.goto((site / f"{name}.html").as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    assert tab.title() != "broken"

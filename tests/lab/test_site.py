"""The report: data in, pages out; and the pages in a real headless browser."""

import hashlib
import json
import math
import re
import shutil
from importlib.resources import files
from xml.etree import ElementTree

import pytest

from neurarium.lab import Bars, Curve, Heatmap, RequestError, Scatter
from neurarium.lab.claims import interval
from neurarium.lab.reference import rooms
from neurarium.lab.site import ArmRow, ClaimRow, PaperPage, build_site, docstrings
from neurarium.lab.site.charts import chart as chart_of
from neurarium.lab.site.curves import bands, mean_map
from neurarium.lab.site.intervals import interval_plot
from neurarium.lab.site.text import address, duration, file_name, number, prose, script, setting
from neurarium.lab.site.wall import Cell, wall
from neurarium.lab.thinning import drawn, thin

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
    content.update(changes)
    content["curves"] = [drawn(figure, content["curves"]) for figure in content["figures"]]
    return PaperPage(**content)


def chart(page, figure):
    at = page.figures.index(figure) if figure in page.figures else None
    return chart_of(page, figure, page.curves[at] if at is not None else {})


def bare(slug, room):
    claims = [ClaimRow("c", "s", "p > 0", None, None, None, None, None, ">", 0)]
    empty = {"arms": [], "figures": [], "curves": {}, "environment": {}, "components": []}
    return page(slug, room=room, year=2001, claims=claims, seconds_total=0.0, **empty)


def hostile_curves():
    rows = [{"step": t, "loss": value, "layer": HOSTILE} for t, value in enumerate([1.0, math.nan, -1.0, 2.0, 1.0])]
    return {HOSTILE: {0: rows, 1: rows}}


@pytest.fixture
def site(tmp_path):
    pages = [
        page(),
        page("second", room="layers", year=2005, title=HOSTILE, summary=HOSTILE, assumption=HOSTILE, scope="mechanism",
             failures=[("idea", 1, HOSTILE)], stale=True, seconds_total=300.0, curves=hostile_curves(),
             arms=[ArmRow(HOSTILE, {"rate": HOSTILE}, {"accuracy": (math.nan, None, math.inf, 1)}, 1.0, 1.0)],
             code_url="javascript:alert(1)"),
        bare("third", "continual"),
    ]  # fmt: skip
    return build_site(pages, tmp_path / "site", version="1").parent


def claim(estimate, low, high, margin=0.1, relation=">"):
    return ClaimRow("c", "s", "p", "undecided", estimate, low, high, margin, relation, 3)


def test_bands_are_means_over_seeds_with_students_interval():
    rows = {seed: [{"x": 0, "y": float(seed)}, {"x": 1, "y": 5.0}] for seed in range(3)}
    (band,) = bands(rows, "x", "y")
    assert band.x == [0.0, 1.0]
    assert band.mean == [1.0, 5.0]
    assert band.high[0] - band.mean[0] == pytest.approx(4.302653 / math.sqrt(3), rel=1e-5)
    assert (band.low[1], band.high[1]) == (5.0, 5.0)
    ci = interval([0.0, 1.0, 2.0])
    assert (band.low[0], band.high[0]) == (ci.low, ci.high)


def test_a_band_of_one_seed_has_no_ends():
    (band,) = bands({4: [{"x": 1, "y": 2.0}]}, "x", "y")
    assert (band.mean, band.low, band.high) == ([2.0], [None], [None])


def test_bands_split_by_series_in_natural_order_and_average_repeats():
    rows = {
        0: [{"x": 0, "y": 1.0, "k": 10}, {"x": 0, "y": 3.0, "k": 10}, {"x": 0, "y": 7.0, "k": 9}, {"x": 0, "y": 1.0}]
    }
    found = bands(rows, "x", "y", "k")
    assert [(b.name, b.mean) for b in found] == [("9", [7.0]), ("10", [2.0])]
    assert bands(rows, "x", "nothing") == []


def test_seeds_at_different_x_are_interpolated_where_all_reach():
    rows = {
        0: [{"x": x, "y": 2.0 * x} for x in (0.0, 1.0, 2.0, 3.0)],
        1: [{"x": x, "y": 2.0 * x + 1.0} for x in (0.5, 1.5, 2.5)],
    }
    (band,) = bands(rows, "x", "y")
    assert band.x == [0.5, 1.0, 1.5, 2.0, 2.5]
    assert band.mean == pytest.approx([2.0 * x + 0.5 for x in band.x])


def test_a_seed_that_stopped_early_keeps_the_others_points():
    rows = {0: [{"x": x, "y": 1.0} for x in range(6)], 1: [{"x": x, "y": 3.0} for x in range(3)]}
    (band,) = bands(rows, "x", "y")
    assert band.mean == [2.0, 2.0, 2.0, 1.0, 1.0, 1.0]


def test_what_is_not_a_number_leaves_a_gap():
    rows = {0: [{"x": 0, "y": 1.0}, {"x": 1, "y": math.nan}, {"x": 2, "y": "text"}, {"x": None, "y": 1.0}]}
    (band,) = bands(rows, "x", "y")
    assert (band.x, band.mean) == ([0.0, 1.0, 2.0], [1.0, None, None])


def test_maps_average_seeds_and_order_their_sides():
    rows = {0: [{"x": 10, "y": "b", "v": 1.0}], 1: [{"x": 10, "y": "b", "v": 3.0}, {"x": 9, "y": "a", "v": math.nan}]}
    rows[1].append({"x": 9, "y": "a", "v": 4.0})
    grid = mean_map(rows, "x", "y", "v")
    assert (grid.x, grid.y) == (["9", "10"], ["b", "a"])
    assert grid.cells == [(0, 1, 4.0), (1, 0, 2.0)]


def test_thinning_keeps_both_ends():
    assert thin(range(1000), 5)[::4] == [0, 999]
    assert thin([1, 2], 5) == [1, 2]


def test_every_kind_of_figure_is_drawn_and_missing_data_is_left_out():
    drawn = [chart(page(), figure) for figure in page().figures]
    assert [[panel["kind"] for panel in figure["panels"]] for figure in drawn] == [
        ["curve"], ["curve", "curve"], ["bars"], ["scatter"], ["heatmap", "heatmap"]
    ]  # fmt: skip
    assert chart(page(), Curve(x="step", y="unknown")) is None
    assert chart(page(), Heatmap(x="step", y="layer", value="unknown")) is None
    json.dumps(drawn, allow_nan=False)
    plain = drawn[0]["panels"][0]["lines"][0]
    assert plain["points"][0][:2] == [0.0, pytest.approx(1.02)]
    assert len(plain["seeds"]) == 3


def test_an_arm_has_one_colour_on_a_page():
    curve, _, bars, scatter, _ = (chart(page(), figure)["panels"][0] for figure in page().figures)
    seen = [
        [(line["name"], line["colour"]) for line in drawn]
        for drawn in (curve["lines"], bars["bars"], scatter["points"])
    ]
    assert seen[0] == seen[1] == seen[2] == [("plain", "arm-0"), ("idea", "arm-1")]
    symbols = [[line["symbol"] for line in lines] for lines in (curve["lines"], scatter["points"])]
    assert symbols == [["circle", "rect"]] * 2
    only_idea = chart(page(), Bars(metric="accuracy", arms=("idea",)))["panels"][0]["bars"]
    assert [bar["colour"] for bar in only_idea] == ["arm-1"]


def test_panels_of_a_figure_share_their_axis():
    first, second = chart(page(), page().figures[1])["panels"]
    assert first["extent"] == second["extent"]


def test_bars_start_at_zero_unless_their_lengths_would_look_alike():
    def bars(*values):
        arms = [ArmRow(str(i), {}, {"m": (v, v - 0.01, v + 0.01, 3)}, 1.0, 1.0) for i, v in enumerate(values)]
        return chart(page(arms=arms), Bars(metric="m"))["panels"][0]["zero"]

    assert bars(0.2, 0.9)
    assert bars(-0.5, 0.5)
    assert not bars(0.95, 0.97)


def test_a_logarithmic_axis_leaves_out_what_it_cannot_show():
    rows = [{"x": x, "y": y} for x, y in ((0, 1.0), (1, 1.0), (2, 0.0), (3, 10.0))]
    figure = Curve(x="x", y="y", log_x=True, log_y=True)
    (panel,) = chart(page(arms=[], curves={"a": {0: rows}}, figures=[figure]), figure)["panels"]
    assert [point[:2] for point in panel["lines"][0]["points"]] == [[1.0, 1.0], [2.0, None], [3.0, 10.0]]


def position(svg, pattern):
    return float(re.search(pattern, svg)[1])


def test_the_interval_lies_on_the_right_side_of_the_margin():
    for estimate, low, high, side in ((0.3, 0.2, 0.4, 1), (0.0, -0.1, 0.05, -1)):
        svg = interval_plot(claim(estimate, low, high))
        dot, margin = position(svg, r'circle[^>]*cx="([\d.]+)%'), position(svg, r'class="margin" x1="([\d.]+)%')
        assert (dot - margin) * side > 0
    assert interval_plot(claim(None, None, None)) == ""
    assert interval_plot(claim(math.nan, math.nan, math.nan)) == ""


def test_the_tint_covers_the_side_where_the_claim_holds():
    above, below = (interval_plot(claim(0.3, 0.2, 0.4, relation=relation)) for relation in "><")
    margin = position(above, r'class="margin" x1="([\d.]+)%')
    assert position(above, r'class="holds" x="([\d.]+)%') == margin
    assert position(below, r'class="holds" x="([\d.]+)%') == 0.0
    assert position(below, r'class="holds"[^>]*width="([\d.]+)%') == margin


@pytest.mark.parametrize("ends", [(-math.inf, math.inf), (None, None)])
def test_an_interval_without_bounds_runs_out_of_the_picture(ends):
    svg = interval_plot(claim(0.3, *ends))
    assert 'x1="0.00%" x2="100.00%" y1="27"' in svg
    assert "nan" not in svg
    assert position(svg, r'circle[^>]*cx="([\d.]+)%') > position(svg, r'class="margin" x1="([\d.]+)%')


def test_an_interval_that_is_a_point_on_the_margin_is_drawn():
    assert "nan" not in interval_plot(claim(0.1, 0.1, 0.1))


def test_what_is_embedded_cannot_break_out():
    assert "</script>" not in script({"a": "</script>"})
    assert prose("``<b>`` and `y`, 1 ` 2") == "<code>&lt;b&gt;</code> and <code>y</code>, 1 ` 2"
    assert json.loads(script([1.0, math.nan, math.inf, -math.inf])) == [1.0, None, None, None]


def test_numbers_and_times_are_written_for_readers():
    assert [number(v) for v in (math.inf, None, -0.12345, 123456.0)] == ["∞", "–", "−0.123", "123 456"]
    assert [duration(v) for v in (0.0, 0.42, 12.3, 200.0, 7500.0)] == ["–", "0.42 s", "12 s", "3 min 20 s", "2 h 5 min"]
    assert [setting(v) for v in (0.1 + 0.2, (1, 2), True, None)] == ["0.3", "1, 2", "yes", "none"]


def test_names_become_files_and_only_safe_addresses_become_links():
    assert [file_name(n) for n in ("ewc", "../my study", "index")] == ["ewc.html", "my-study.html", "index-study.html"]
    assert address("file:///a.py") == "file:///a.py"
    assert address("javascript:alert(1)") == ""


def test_links_resolve_and_text_is_escaped(site):
    for file in site.glob("*.html"):
        text = file.read_text(encoding="utf-8")
        assert "<script>document.title" not in text
        assert "javascript:" not in text
        for target in re.findall(r'(?:href|src)="([^"#]+)"', text):
            if not re.match(r"(https?|data|file):", target):
                assert (site / target).exists(), target


GUIDES = {
    "run": "# Running\n\nSee [first](../papers/first.md), [all](../../README.md), [this](#two), [gone](gone.md).\n\n"
    "## One\n\n`a | b` <b>raw</b> <!-- hidden -->\n\n## Two\n\n| x | y |\n|---|---:|\n| 1 | `c` |\n\n## Three\n\n"
    "```python\nimport torch  # <script>\n```\n",
    "compared": "# What comparing found\n\nSee [running](run.md#one) and [a study](../papers/second.md).\n",
}


@pytest.fixture(scope="module")
def whole_site(tmp_path_factory):
    pages = [
        page(use="**When to use it.** Always.\n\n```python\nprint(1)\n```", found="## What we found\n\nIt works.",
             example="print('whole')", names=[("learning", "Backprop"), ("learning._rule", "Loss"), ("layers", "pam")]),
        page("second"),
    ]  # fmt: skip
    folder = tmp_path_factory.mktemp("whole") / "site"
    return build_site(pages, folder, version="1", guides=GUIDES, rooms=rooms(), sources=None).parent


def test_every_link_of_the_whole_site_leads_somewhere(whole_site):
    files_ = {file.name: file.read_text(encoding="utf-8") for file in whole_site.glob("*.html")}
    assert {"guide-run.html", "guide-compared.html", "reference.html", "room-learning.html"} <= files_.keys()
    for name, text in files_.items():
        assert text.count("<main") == 1
        for target in re.findall(r'(?:href|src)="([^"]+)"', text):
            if re.match(r"(https?|data|file):", target):
                continue
            file, _, part = target.partition("#")
            assert not file or (whole_site / file).exists(), f"{name} links to {target}"
            if part and (file or name).endswith(".html"):
                assert f'id="{part}"' in files_[file or name], f"{name} links to {target}"


def test_written_pages_keep_their_words_and_lose_their_comments(whole_site):
    text = (whole_site / "guide-run.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;raw&lt;/b&gt;" in text
    assert "<!-- hidden" not in text
    assert "&lt;!--" not in text
    assert '<a href="first.html">first</a>' in text
    assert '<a href="index.html">all</a>' in text
    assert "<span>gone</span>" in text
    compared = (whole_site / "guide-compared.html").read_text(encoding="utf-8")
    assert '<a href="guide-run.html#one">running</a>' in compared
    assert '<a href="second.html">a study</a>' in compared


def test_a_papers_page_says_first_how_to_use_it(whole_site):
    text = (whole_site / "first.html").read_text(encoding="utf-8")
    order = [text.index(f'id="{part}"') for part in ("use", "claims", "figures", "found", "arms", "origin")]
    assert order == sorted(order)
    assert ">print<" in text[order[0] : order[1]]
    assert "whole" in text[order[0] : order[1]]
    assert 'href="room-learning.html#Backprop"' in text


def test_the_reference_has_every_public_name_with_what_its_docstring_says(whole_site):
    import neurarium.lab
    import neurarium.learning

    for room in (neurarium.learning, neurarium.lab):
        text = (whole_site / f"room-{room.__name__.split('.')[-1]}.html").read_text(encoding="utf-8")
        for name in room.__all__:
            assert f'id="{name}"' in text, name
    learning = (whole_site / "room-learning.html").read_text(encoding="utf-8")
    assert "source of the feedback, on the CPU" in learning  # an argument of DirectFeedbackAlignment
    assert "assign_credit" in learning


def test_docstrings_are_taken_apart():
    doc = docstrings.parse(
        """First `x` line.

        A second paragraph.

        Args:
            x: a number
                that goes on.
            *rest: others.

        Raises:
            ValueError: x is negative.

        Example:
            >>> f(1)
            2
        """
    )
    assert (doc.first, doc.paragraphs) == ("First `x` line.", ["A second paragraph."])
    assert list(docstrings.items(doc.sections["Args"])) == [("x", "a number that goes on."), ("*rest", "others.")]
    html = docstrings.body(doc, {"x": "room.html#x"})
    assert "<dt><code>x</code></dt><dd>a number that goes on.</dd>" in html
    assert "Raises" in html
    assert "Example" in html


def test_signatures_are_read_from_the_syntax_tree():
    symbols = {symbol.name: symbol for room in rooms() for symbol in room.symbols}
    assert symbols["run"].parameters[:3] == ("study: str", "*", "scale: str = 'small'")
    assert symbols["run"].returns == "Finding"
    assert symbols["DirectFeedbackAlignment"].parameters[0] == "model: nn.Module"
    assert symbols["DirectFeedbackAlignment"].bases == ("LearningRule",)
    undocumented = [name for name, symbol in symbols.items() if not symbol.docstring and symbol.kind != "constant"]
    assert undocumented == []


def test_the_chart_library_comes_only_where_something_is_drawn(site, tmp_path):
    assert "echarts" not in (site / "third.html").read_text(encoding="utf-8")
    assert "echarts" in (site / "first.html").read_text(encoding="utf-8")
    bare_site = build_site([bare("only", "continual")], tmp_path / "bare", version="1").parent
    assert not (bare_site / "echarts.min.js").exists()


def test_the_vendored_library_is_the_one_its_note_names():
    vendor = files("neurarium.lab.site") / "vendor"
    found = hashlib.sha256((vendor / "echarts.min.js").read_bytes()).hexdigest()
    assert found in (vendor / "README.md").read_text(encoding="utf-8")


def test_two_claims_in_the_same_words_keep_their_own_intervals(tmp_path):
    twins = [claim(0.3, 0.2, 0.4), claim(-0.7, -0.8, -0.6)]
    text = build_site([page(claims=twins)], tmp_path, version="1").with_name("first.html").read_text(encoding="utf-8")
    assert ">0.3</text>" in text
    assert ">−0.7</text>" in text


def test_a_claim_shows_the_papers_number_and_a_run_of_ones_own(tmp_path):
    row = ClaimRow("c", "s", "p > 0", "reproduced", 0.3, 0.2, 0.4, 0.1, ">", 3, "98 % & more", "undecided, 0.1")
    text = build_site([page(claims=[row])], tmp_path, version="1").with_name("first.html").read_text(encoding="utf-8")
    assert "98 % &amp; more" in text
    assert "your run: undecided, 0.1" in text


def test_the_picture_has_a_cell_for_every_paper_with_curves():
    made = page(title=HOSTILE)
    cell = Cell(made.slug, made.title, made.figures, made.curves, ["reproduced", None, "undecided"])
    empty = Cell("bare", "Bare", [], [], ["reproduced"])
    flat = [{"step": t, "loss": 1.0} for t in range(3)]
    level = Cell("flat", "Flat", [Curve(x="step", y="loss")], [{"a": {0: flat}}], [])
    alone = ElementTree.fromstring(wall([cell, empty, level]))
    names = [text.text for text in alone.iter("{http://www.w3.org/2000/svg}text")]
    assert names == ["first", "flat"]
    assert len(list(alone.iter("{http://www.w3.org/2000/svg}circle"))) == 3
    assert len(list(alone.iter("{http://www.w3.org/2000/svg}path"))) == 3  # two arms, and a level line
    assert 'href="first.html"' in wall([cell], {"first": "first.html"})
    assert wall([empty]) == ""


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


def expect_drawn(tab, count):
    tab.wait_for_function("count => document.querySelectorAll('.chart[data-drawn]').length === count", arg=count)


def titles(tab):
    return [cell.inner_text() for cell in tab.locator("#papers tbody tr:not([hidden]) th:first-child a").all()]


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


def test_navigation_search_and_named_places(tab, whole_site):
    tab.goto((whole_site / "index.html").as_uri())
    for label, heading in (("Reference", "Reference"), ("Guides", "Running"), ("Comparison", "What comparing found")):
        tab.get_by_role("navigation", name="Main").get_by_role("link", name=label).click()
        assert tab.inner_text("h1") == heading
        assert tab.inner_text("nav.main [aria-current]") == label
    tab.goto((whole_site / "reference.html").as_uri())
    tab.fill("#find", "direct feedback")
    tab.fill("#find", "DirectFeedbackAlignment")
    assert tab.inner_text("#shown") == "1 found"
    tab.locator("#names li:not([hidden]) a").click()
    assert tab.inner_text("h1") == "neurarium.learning"
    tab.wait_for_selector("#DirectFeedbackAlignment[open]")
    assert "feedback: Literal" in tab.inner_text("#DirectFeedbackAlignment")


def test_a_table_sorts_numbers_as_numbers_and_leaves_what_is_missing_last(tab, site):
    tab.goto((site / "index.html").as_uri())
    heading = tab.get_by_role("button", name="Cost")
    heading.click()
    assert titles(tab) == ["Paper first", HOSTILE, "Paper third"]
    heading.focus()
    tab.keyboard.press("Enter")
    assert titles(tab) == [HOSTILE, "Paper first", "Paper third"]
    assert tab.locator("#papers th[aria-sort=descending]").inner_text().startswith("Cost")
    for name in ("Paper", "Room", "Claims"):
        tab.get_by_role("button", name=re.compile(f"^{name}")).click()
        assert len(titles(tab)) == 3


def test_pages_draw_their_figures_in_light_and_dark(tab, site):
    tab.goto((site / "index.html").as_uri())
    tab.get_by_role("link", name="Paper first").first.click()
    tab.wait_for_url("**/first.html")
    expect_drawn(tab, 7)
    assert tab.title() == "Paper first · Neurarium"
    light = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    before = tab.locator(".chart svg").first.inner_html()
    tab.click("#theme")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") != light
    assert tab.locator(".chart svg").first.inner_html() != before  # lines and axes in the colours of the dark page
    tab.reload()
    assert tab.get_attribute("#theme", "aria-pressed") == "true"
    tab.locator(".chart").first.hover()


def test_a_legend_hides_an_arm_and_every_seed_can_be_shown(tab, site):
    tab.goto((site / "first.html").as_uri())
    expect_drawn(tab, 7)
    figure = tab.locator("figure").first
    lines = figure.locator("svg path")
    before = lines.count()
    figure.locator(".seeds input").check()
    assert lines.count() > before
    button = figure.get_by_role("button", name="idea")
    button.focus()
    tab.keyboard.press("Space")
    assert button.get_attribute("aria-pressed") == "false"
    figure.locator(".seeds input").uncheck()
    assert lines.count() < before


def test_hostile_names_and_numbers_are_drawn(tab, site):
    tab.goto((site / "second.html").as_uri())
    expect_drawn(tab, 2)  # the two curves; neither accuracy nor sizes are finite there
    tab.locator(".chart").first.hover()
    assert tab.title() == f"{HOSTILE} · Neurarium"


def test_print_is_light_and_unfolded(tab, site):
    tab.goto((site / "second.html").as_uri())
    tab.click("#theme")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.evaluate("[document.documentElement.dataset.theme, document.querySelector('#failures').open]") == [
        "light",
        True,
    ]
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.evaluate("[document.documentElement.dataset.theme, document.querySelector('#failures').open]") == [
        "dark",
        False,
    ]


@pytest.mark.parametrize("width", [320, 360])
@pytest.mark.parametrize("name", ["index", "first", "second", "third"])
def test_pages_fit_a_telephone(tab, site, name, width):
    tab.set_viewport_size({"width": width, "height": 640})
    tab.goto((site / f"{name}.html").as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.title() != "broken"

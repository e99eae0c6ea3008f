"""The page in a browser: what can be switched, sorted and opened, on wide and narrow screens.

Needs Chromium or Chrome and the package playwright, which drives it; what `playwright install` would download is not
used.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from test_report import write_trial

from algorithms import METHODS
from bench.report.__main__ import main, rewrite
from bench.store.resolved import Algorithm, Resolved

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
EXECUTABLE = next((found for name in BROWSERS if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium or Chrome is installed")

TASKS = ("mamujoco/HalfCheetah-6x1", "python:envs:Cat:name=$\\foo$<b>:" + "option_" * 8)
LABELS = ("mappo", "happo", "$\\foo$", "<script>alert(1)</script>", "\x1b[31m_red_", "L" * 80)
SHOWN = [label.replace("\x1b", r"\x1b") for label in LABELS]
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two tasks and six algorithms with returns from -100 to 1,000."""
    suite = tmp_path_factory.mktemp("results") / "demo"
    finals = (20.0, 1000.0, 5.0, -100.0, 100.0, 7.0)
    for task, (label, final) in product(TASKS, zip(LABELS, finals, strict=True)):
        write_trial(suite, label, task=task, returns=(0.0, final / 2, final), final=final, absolute=final)
    about = {label: Algorithm("mappo" if label == "mappo" else "happo", "", False) for label in LABELS}
    Resolved([*METHODS], TASKS, about, []).write(suite)
    assert main([str(suite)]) == 0
    return suite / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=EXECUTABLE)
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Callable[..., Any]]:
    """Opens the page; in the end nothing was said in the console and no file but the page was asked for."""
    contexts, said, asked = [], [], []

    def open_page(hash: str = "", path: Path = report, **options: Any) -> Any:
        contexts.append(browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **options}))
        page = contexts[-1].new_page()
        page.set_default_timeout(5000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url.partition("#")[0]))
        page.goto(path.as_uri() + hash)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    assert all(re.fullmatch(r"file://.*/(report|index)\.html", url) for url in asked)


def texts(page: Any, selector: str) -> list[str]:
    return [text.strip() for text in page.locator(selector).all_text_contents()]


def visible_series(page: Any) -> set[str]:
    return {
        *page.locator("figure svg [data-algorithm]:visible").evaluate_all("all => all.map(x => x.dataset.algorithm)")
    }


def first_column(page: Any, table: int = 0) -> list[str]:
    return texts(page, f"[data-table=returns] >> nth={table} >> tbody th:visible")


def legend(page: Any, label: str) -> Any:
    return page.locator(".legend button", has_text=label).first


def heading(page: Any, name: str, table: int = 0) -> Any:
    return page.locator("[data-table=returns]").nth(table).locator("th", has=page.get_by_text(name, exact=True)).first


# what stands on the page


def test_labels_stand_as_they_are_written_and_run_nothing(opened: Callable[..., Any]) -> None:
    page = opened()
    assert texts(page, ".legend >> nth=0 >> li span") == SHOWN
    assert first_column(page)[0].endswith("mappo")
    titles = "".join(texts(page, "figure svg text"))
    assert "name=$\\foo$<b>:" in titles
    assert page.locator("script").count() == 1


def test_every_figure_has_a_size_and_holds_its_text(opened: Callable[..., Any]) -> None:
    for options in ({}, {"viewport": PHONE}):
        figures = opened(**options).locator("figure svg").evaluate_all(OUTSIDE)
        assert len(figures) >= 2 * len(TASKS)
        assert all(width > 100 and height > 80 for width, height, _ in figures)
        assert [cut for *_, cut in figures if cut] == []


OUTSIDE = """all => all.map((svg) => {
  const box = svg.getBoundingClientRect();
  const cut = [...svg.querySelectorAll("text")].filter((text) => {
    const own = text.getBoundingClientRect();
    return own.left < box.left - 1 || own.right > box.right + 1 || own.top < box.top - 1 || own.bottom > box.bottom + 1;
  });
  return [box.width, box.height, cut.map((text) => text.textContent).join()];
})"""


def test_on_a_phone_the_page_does_not_scroll_sideways_and_no_text_is_cut(opened: Callable[..., Any]) -> None:
    page = opened(viewport=PHONE, is_mobile=True, has_touch=True)
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    assert page.evaluate(BEYOND) == []
    assert page.locator(".scroll").evaluate_all("all => all.some(box => box.scrollWidth > box.clientWidth)")


def test_a_long_word_in_a_traceback_or_a_name_makes_no_phone_scroll_sideways(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    word = "L" * 80
    failed: dict[str, Any] = {"status": "failed", "error": "it fell", "traceback": f"File {word}\nit fell"}
    write_trial(tmp_path / word, "happo")
    write_trial(tmp_path / word, "happo", 1, final=None, absolute=None, **failed)
    write_trial(tmp_path / "other", "happo")
    assert main([str(tmp_path / word), str(tmp_path / "other")]) == 0
    for path, hash in ((tmp_path / word / "report.html", "#trial-2"), (tmp_path / "index.html", "")):
        page = opened(hash, path, viewport={"width": 360, "height": 780}, is_mobile=True)
        assert page.get_by_text(word).last.is_visible()
        assert page.evaluate("document.scrollingElement.scrollWidth <= 360")
        assert page.evaluate(BEYOND) == []


BEYOND = """(() => {
  const beyond = [], range = document.createRange();
  const texts = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode, holder = text.parentElement;
    if (!text.data.trim() || holder.closest(".scroll, svg") || !holder.checkVisibility()) continue;
    range.selectNodeContents(text);
    const box = range.getBoundingClientRect();
    if (box.left < 0 || box.right > innerWidth) beyond.push(text.data.slice(0, 80));
  }
  return beyond;
})()"""


def test_the_page_is_light_or_dark_as_the_reader_wishes_and_white_on_paper(opened: Callable[..., Any]) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    dark, light = (opened(color_scheme=scheme) for scheme in ("dark", "light"))
    assert (dark.evaluate(paper), light.evaluate(paper)) == ("rgb(21, 25, 30)", "rgb(255, 255, 255)")
    patch = "getComputedStyle(document.querySelector('figure svg path')).fill"
    assert dark.evaluate(patch) == "rgb(21, 25, 30)"
    dark.emulate_media(media="print")
    assert dark.evaluate(paper) == "rgb(255, 255, 255)"
    assert dark.locator(".columns").first.is_hidden()


def test_without_scripts_all_is_there_and_nothing_is_a_dead_button(opened: Callable[..., Any]) -> None:
    page = opened("#hide=mappo&sort=returns.0~mean~up", java_script_enabled=False)
    assert page.locator("button, input").count() == 0
    assert texts(page, ".legend >> nth=0 >> li span") == SHOWN
    assert len(first_column(page)) == len(LABELS)


# switching


def test_a_legend_switches_an_algorithm_in_all_figures_and_tables(opened: Callable[..., Any]) -> None:
    page = opened()
    assert visible_series(page) == {*SHOWN}
    button = legend(page, "happo")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert visible_series(page) == {*SHOWN} - {"happo"}
    assert page.locator("tr[data-algorithm=happo]:visible").count() == 0
    assert page.locator("tr[data-algorithm=happo]").count() >= 2
    button.focus()
    page.keyboard.press("Enter")
    assert visible_series(page) == {*SHOWN}


def test_a_label_that_is_markup_can_be_switched(opened: Callable[..., Any]) -> None:
    page = opened()
    legend(page, "<script>").click()
    assert visible_series(page) == {*SHOWN} - {"<script>alert(1)</script>"}
    page.reload()
    assert visible_series(page) == {*SHOWN} - {"<script>alert(1)</script>"}


# sorting


def test_a_heading_sorts_numbers_as_numbers_up_then_down_then_as_before(opened: Callable[..., Any]) -> None:
    page = opened()
    before = first_column(page)
    up = [SHOWN[k] for k in (3, 2, 5, 0, 4, 1)]
    for order, sort in ((up, "ascending"), (up[::-1], "descending"), (before, "none")):
        heading(page, "final IQM").locator("button").click()
        assert heading(page, "final IQM").get_attribute("aria-sort") == sort
        assert [text.split()[-1] for text in first_column(page)] == [text.split()[-1] for text in order]
    assert first_column(page, 1) == before


def test_a_heading_is_a_button_for_the_keyboard_and_text_sorts_as_text(opened: Callable[..., Any]) -> None:
    page = opened()
    heading(page, "algorithm").locator("button").focus()
    page.keyboard.press("Enter")
    assert heading(page, "algorithm").get_attribute("aria-sort") == "ascending"
    names = [text.split()[-1] for text in first_column(page)]
    assert [name for name in names if name.endswith("appo") or "L" in name] == ["happo", "L" * 80, "mappo"]


@pytest.mark.parametrize(
    ("cells", "order"),
    [
        (("3 h", "120 min", "50 s", "–"), "CBAD"),
        (("1,000", "-20", "9.5", "not finite"), "BCAD"),
        (("[10, 30]", "[2, 40]", "–", "[-1, 4]"), "DBAC"),
        (("2 of 3", "3", "10", ""), "ABCD"),
        (("1e-3", "1e-5", "0.5", "1e2"), "BACD"),
        (("b10", "b9", "a", "c"), "CBAD"),
        (("<i data-value='3'>x</i>", "1 (2 to 3)", "12%", "0.2M"), "BCDA"),
    ],
)
def test_the_order_of_cells(opened: Callable[..., Any], tmp_path: Path, cells: tuple[str, ...], order: str) -> None:
    rows = "".join(f"<tr><th>{name}</th><td>{cell}</td></tr>" for name, cell in zip("ABCD", cells, strict=True))
    rows = rows.replace("<td><i data-value='3'>x</i>", "<td data-value='9e9'>x")
    table = f'<table class="sortable" data-table="t"><thead><tr><th>name</th><th>x</th></tr></thead><tbody>{rows}'
    script = (Path(__file__).parents[3] / "bench/report/templates/page.js").read_text()
    path = tmp_path / "report.html"
    path.write_text(f"<!doctype html><meta charset=utf-8><main>{table}</table></main><script>{script}</script>")
    page = opened("#sort=t.0~x~up", path=path)
    assert "".join(texts(page, "tbody th")) == order


# columns


def test_a_column_is_left_out_of_all_tables_of_its_kind(opened: Callable[..., Any]) -> None:
    page = opened()
    width = page.locator("[data-table=returns] >> nth=0 >> thead th:visible").count()
    choice = page.locator("section", has=page.locator("[data-table=returns]")).locator(".columns").first
    choice.locator("summary").click()
    choice.get_by_label("median").uncheck()
    for table in range(len(TASKS)):
        assert heading(page, "median", table).is_hidden()
        assert page.locator(f"[data-table=returns] >> nth={table} >> thead th:visible").count() == width - 1
        assert (
            page.locator(f"[data-table=returns] >> nth={table} >> tbody tr >> nth=0 >> td:visible").count() == width - 2
        )
    page.go_back()
    assert heading(page, "median").is_visible()
    assert choice.get_by_label("median").is_checked()


# entries of trials


def test_a_click_on_a_curve_opens_the_entry_of_its_task_and_algorithm(opened: Callable[..., Any]) -> None:
    page = opened()
    for number, task in enumerate(TASKS):
        line = page.locator("figure svg [data-task]").nth(number).locator("[data-algorithm=happo] > path").last
        line.scroll_into_view_if_needed()
        x, y = line.evaluate(MIDDLE)
        page.mouse.click(x, y)
        entry = page.locator("details[data-algorithm=happo]").nth(number)
        assert entry.get_attribute("data-task") == task
        assert entry.get_attribute("open") is not None
        assert entry.evaluate("one => one.getBoundingClientRect().top < innerHeight")
    assert page.locator("details[data-algorithm][open]").count() == len(TASKS)


MIDDLE = """(line) => {
  const at = line.getPointAtLength(0.97 * line.getTotalLength()).matrixTransform(line.getScreenCTM());
  return [at.x, at.y];
}"""


# the URL


def test_the_url_keeps_the_state_and_the_back_button_undoes_a_step(opened: Callable[..., Any]) -> None:
    page = opened()
    legend(page, "L" * 80).click()
    heading(page, "mean").locator("button").click()
    page.locator("details[id^=trial-] > summary").nth(4).click()
    page.wait_for_function("location.hash.includes('open=')")
    again = opened("#" + page.url.partition("#")[2])
    for one in (page, again):
        assert visible_series(one) == {*SHOWN} - {"L" * 80}
        assert heading(one, "mean").get_attribute("aria-sort") == "ascending"
        assert one.locator("details[data-algorithm][open]").count() == 1
    page.go_back()
    assert page.locator("details[data-algorithm][open]").count() == 0
    page.go_back()
    assert heading(page, "mean").get_attribute("aria-sort") == "none"
    page.go_back()
    assert visible_series(page) == {*SHOWN}
    page.go_forward()
    assert visible_series(page) == {*SHOWN} - {"L" * 80}


@pytest.mark.parametrize("hash", ["#%", "#sort=x", "#sort=returns.0~nothing~up&hide=nobody&open=none", "#=&&~"])
def test_a_url_that_says_nothing_known_is_harmless(opened: Callable[..., Any], hash: str) -> None:
    assert visible_series(opened(hash)) == {*SHOWN}


def test_a_link_to_an_entry_opens_it(opened: Callable[..., Any]) -> None:
    entry = opened("#trial-3").locator("#trial-3")
    assert entry.get_attribute("open") is not None
    assert entry.evaluate("one => one.getBoundingClientRect().top < innerHeight")


# while trials run


def test_a_watched_page_loads_itself_again_in_the_state_in_which_it_was(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    write_trial(tmp_path / "demo")
    write_trial(tmp_path / "demo", "happo")
    rewrite(tmp_path / "demo", 1)
    page = opened("#hide=happo", path=tmp_path / "demo" / "report.html")
    assert visible_series(page) == {"mappo"}
    rewrite(tmp_path / "demo", 0)
    page.wait_for_selector("html:not([data-refresh])")
    assert visible_series(page) == {"mappo"}

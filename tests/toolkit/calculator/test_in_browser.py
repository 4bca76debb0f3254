"""The calculator in a real browser: in JupyterLab and as the static page, driven through Chromium."""

import functools
import http.server
import threading

import pytest

from tests.toolkit.lab import SECONDS
from toolkit.calculator import page
from toolkit.plan import Plan

pytestmark = pytest.mark.slow
CLIPBOARD = ["clipboard-read", "clipboard-write"]


@pytest.fixture(scope="module")
def page_address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    page.build(folder)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def opened_page(browser, page_address):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, permissions=CLIPBOARD)
    shown = context.new_page()
    shown.problems = []
    shown.on("pageerror", lambda error: shown.problems.append(str(error)))
    shown.goto(page_address)
    shown.wait_for_selector(".vram-chart", timeout=SECONDS)
    yield shown
    assert not shown.problems
    context.close()


def copied_plan(shown):
    scope = {}
    exec(shown.evaluate("navigator.clipboard.readText()"), scope)
    assert isinstance(scope["plan"], Plan)
    return scope["plan"]


def set_field(shown, name, value):
    shown.fill(f"#field-{name}", value)
    shown.keyboard.press("Tab")


def test_page_redraws_and_a_fix_makes_it_fit(opened_page):
    set_field(opened_page, "batch", "64")
    opened_page.wait_for_selector(".vram-verdict.exceeds")
    opened_page.click("button.enough >> nth=0")
    opened_page.wait_for_selector(".vram-verdict.fits")
    assert opened_page.input_value("#field-batch") != "64" or "checkpointing" in opened_page.inner_text("pre")


def test_page_shows_an_error_in_place_and_goes_on(opened_page):
    before = opened_page.inner_text("pre")
    set_field(opened_page, "batch", "-1")
    opened_page.wait_for_selector("#error:not([hidden])")
    assert "batch deve ser" in opened_page.inner_text("#error")
    assert opened_page.get_attribute("#field-batch", "aria-invalid") == "true"
    assert opened_page.inner_text("pre") == before
    set_field(opened_page, "batch", "1")
    opened_page.wait_for_selector("#error", state="hidden")


def test_page_copies_code_that_gives_the_plan_back(opened_page):
    opened_page.select_option("#field-model", "TucanoBR/Tucano-2b4")
    opened_page.click("#copy")
    assert copied_plan(opened_page).model.name == "TucanoBR/Tucano-2b4"


def test_page_in_english_and_on_a_phone(opened_page):
    opened_page.click("[data-language=en]")
    assert opened_page.inner_text("h1") == "VRAM calculator"
    opened_page.set_viewport_size({"width": 360, "height": 740})
    assert opened_page.evaluate("document.documentElement.scrollWidth") <= 360
    opened_page.click("[data-language=pt]")
    opened_page.set_viewport_size({"width": 1280, "height": 900})


def test_page_has_a_label_for_every_input(opened_page):
    opened_page.click("summary")
    unlabelled = "[...document.querySelectorAll('input, select')].filter(i => !i.labels.length).length"
    assert opened_page.evaluate(unlabelled) == 0


def test_widget_in_jupyterlab(browser, lab):
    context = browser.new_context(viewport={"width": 1400, "height": 1400}, permissions=CLIPBOARD)
    shown = lab(context, "from toolkit.calculator import calculator\ncalculator()")
    shown.wait_for_selector(".vram-chart", timeout=SECONDS)
    batch = shown.locator(".widget-text:has-text('Lote') input")
    batch.fill("64")
    batch.press("Enter")
    shown.wait_for_selector(".vram-verdict.exceeds")
    shown.locator("button.mod-success").first.click()
    shown.wait_for_selector(".vram-verdict.fits")
    batch.fill("zero")
    batch.press("Enter")
    shown.wait_for_selector(".vram-error")
    assert "batch deve ser um número inteiro" in shown.inner_text(".vram-error")
    batch.fill("3")
    batch.press("Enter")
    shown.wait_for_selector(".vram-error", state="detached")
    shown.locator("button:has-text('Copiar o código')").click()
    assert copied_plan(shown).batch == 3
    context.close()

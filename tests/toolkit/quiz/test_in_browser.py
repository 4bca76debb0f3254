"""The practice widget in JupyterLab, clicked through by a real browser."""

import pytest

from tests.toolkit.lab import SECONDS

pytestmark = pytest.mark.slow


def test_practice_in_jupyterlab(browser, lab, tmp_path):
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    shown = lab(context, "from toolkit import quiz\nquiz.practice('03_lora', seed=0)")
    check = shown.locator("button:has-text('Conferir')")
    check.wait_for(timeout=SECONDS)
    check.click()
    shown.wait_for_selector("text=/respondida|letras/")
    questions = set()
    for _ in range(5):
        questions.add(shown.inner_text(".jp-OutputArea-output b"))
        shown.locator("button:has-text('Próxima')").click()
        shown.wait_for_timeout(300)
    assert len(questions) == 5
    while not shown.locator(".widget-radio-box input").count():
        shown.locator("button:has-text('Próxima')").click()
        shown.wait_for_timeout(300)
    shown.locator(".widget-radio-box input").first.check()
    check.click()
    shown.wait_for_selector("text=/Certo\\.|Ainda não\\./")
    shown.screenshot(path=tmp_path / "practice.png")
    context.close()

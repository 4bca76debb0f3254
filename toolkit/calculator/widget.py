"""The calculator in a notebook: core ipywidgets only, the same in 7.7 (Colab) and 8 (JupyterLab)."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from typing import Any

import ipywidgets as w
from IPython.display import display

from toolkit.calculator.form import FIELDS, Field
from toolkit.calculator.session import Session
from toolkit.calculator.words import Language, say
from toolkit.plan import Plan
from toolkit.vram.fit import Fix

STYLE = files("toolkit.calculator").joinpath("style.css").read_text(encoding="utf-8")
COLUMN = {"width": "300px", "min_width": "260px", "flex": "0 0 auto", "margin": "0 20px 0 0"}


class Calculator:
    """The widget of a Session: leave it as the last line of a cell."""

    def __init__(self, plan: Plan | None = None, language: Language = "pt") -> None:
        self.session = Session(plan, language)
        self.inputs = {field.name: self._input(field) for field in FIELDS}
        self.language = w.ToggleButtons(
            options=[("Português", "pt"), ("English", "en")], value=language, style={"button_width": "92px"}
        )
        self.language.observe(self._translate, names="value")
        self.shown, self.error = w.HTML(), w.HTML()
        self.fixes = w.Box(layout=w.Layout(flex_flow="row wrap"))
        self.code = w.HTML()
        self._changing = False
        plain = [self.inputs[field.name] for field in FIELDS if not field.advanced]
        self.advanced = w.Accordion(
            [w.VBox([self.inputs[field.name] for field in FIELDS if field.advanced])], selected_index=None
        )
        controls = w.VBox([self.language, *plain, self.advanced, self.error], layout=w.Layout(**COLUMN))
        result = w.VBox(
            [self.shown, self.fixes, self.code], layout=w.Layout(flex="1 1 340px", min_width="300px")
        )
        self.widget = w.Box(
            [w.HTML(f"<style>{STYLE}</style>"), controls, result], layout=w.Layout(flex_flow="row wrap")
        )
        self._redraw()

    def _ipython_display_(self) -> None:
        display(self.widget)  # type: ignore[no-untyped-call]

    def _input(self, field: Field) -> Any:
        layout = w.Layout(width="auto")
        made = {
            "select": lambda: w.Dropdown(layout=layout),
            "integer": lambda: w.Text(layout=layout, continuous_update=False),
            "text": lambda: w.Text(layout=layout, continuous_update=False),
            "check": lambda: w.Checkbox(indent=False, layout=layout),
        }[field.kind]()
        made.style.description_width = "128px"
        made.observe(lambda change: self._edited(field.name, change["new"]), names="value")
        return made

    def _edited(self, name: str, value: Any) -> None:
        if not self._changing:
            self.session.edit(name, value)
            self._redraw(typed=name if self.session.error else "")

    def _translate(self, change: dict[str, Any]) -> None:
        self.session.translate(change["new"])
        self._redraw()

    @property
    def plan(self) -> Plan:
        """The plan on show."""
        return self.session.plan

    def apply(self, fix: Fix) -> None:
        """Put a fix's plan in place of the one on show."""
        self.session.show(fix.plan)
        self._redraw()

    def _redraw(self, typed: str = "") -> None:
        """Show the session's plan; the field `typed` keeps its refused value beside the error."""
        self._changing = True
        for field in FIELDS:
            if field.name != typed:
                self._fill(field)
        self._changing = False
        view, language = self.session.view, self.session.language
        self.advanced.set_title(0, say("advanced", language))
        error = escape(self.session.error)
        self.error.value = (
            f'<div class="vram"><div class="vram-error" role="alert">{error}</div></div>' if error else ""
        )
        self.shown.value = f'<div class="vram">{view.html}</div>'
        self.code.value = _code(view.code, language)
        self.fixes.children = self._buttons(view.fixes)

    def _fill(self, field: Field) -> None:
        plan, made = self.session.plan, self.inputs[field.name]
        made.layout.display = None if field.shown(plan) else "none"
        made.description = say(field.name, self.session.language)
        if field.kind == "text":
            made.placeholder = say("paste", self.session.language)
        if not field.shown(plan):
            return
        if field.kind == "select":
            options = tuple(self.session.options(field))
            if made.options != options:
                made.options = options
        made.value = field.read(plan) if field.kind in ("select", "check") else str(field.read(plan))

    def _buttons(self, fixes: tuple[tuple[str, Fix], ...]) -> tuple[Any, ...]:
        rows: list[Any] = []
        for key, enough in (("fixes", True), ("helps", False)):
            group = [(label, fix) for label, fix in fixes if (fix.verdict == "fits") == enough]
            if group:
                heading = escape(say(key, self.session.language))
                rows.append(
                    w.HTML(f'<div class="vram"><h4>{heading}</h4></div>', layout=w.Layout(width="100%"))
                )
                rows.extend(self._button(label, fix) for label, fix in group)
        return tuple(rows)

    def _button(self, label: str, fix: Fix) -> Any:
        enough = fix.verdict == "fits"
        button = w.Button(description=label, tooltip=label, layout=w.Layout(width="auto"))
        button.button_style, button.style.button_color = ("success", "#125537") if enough else ("", None)
        button.on_click(lambda _: self.apply(fix))
        return button


def _code(code: str, language: Language) -> str:
    copy, copied = escape(say("copy", language)), escape(say("copied", language))
    # Colab shows outputs in a frame of another origin, where navigator.clipboard is out of reach
    click = (
        "getSelection().selectAllChildren(this.nextElementSibling);document.execCommand('copy');"
        f"this.textContent='{copied}';setTimeout(()=>this.textContent='{copy}',1500)"
    )
    return (
        f'<div class="vram"><h4>{escape(say("code", language))}</h4>'
        f'<button class="jupyter-button" onclick="{click}">{copy}</button>'
        f'<pre class="vram-code">{escape(code)}</pre></div>'
    )

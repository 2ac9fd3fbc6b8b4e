# SPDX-License-Identifier: Apache-2.0
"""Screens on top of the main one: one request whole, and the question before something is changed.

Flow:  app.py -> push_screen -> **EntryScreen** | **Question** -> what was answered
Owns:  nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Label, Static

from cubbyhole.cli.columns import printable
from cubbyhole.cli.entries import row, times_of
from cubbyhole.cli.facts import fact_lines
from cubbyhole.cli.past import finished_phases, finished_row
from cubbyhole.core.clock import now_ns
from cubbyhole.seen.phases import draw, list_phases

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from cubbyhole.seen.attached import AttachedServer


def describe(attached: AttachedServer, request_id: int) -> str:
    """Return one request whole, as text: its values, its phases, and why it failed."""
    entry = next((one for one in attached.entries() if one.id == request_id), None)
    past = next((one for one in attached.history() if one.id == request_id), None)
    record = next((one for one in attached.failures() if one.id == request_id), None)
    lines: list[str] = []
    found = None
    if entry is not None:
        found, phases = row(attached, entry), list_phases(times_of(entry), now_ns(), over=False)
    elif past is not None:
        found, phases = finished_row(attached, past), finished_phases(past)
    if found is not None:
        lines += [*fact_lines(found), "", *draw(phases)]
    if record is not None:
        lines += ["", f"failed: {record.status} {record.code}", printable(record.message)]
        lines += printable(record.traceback_text.rstrip()).splitlines()
    if not lines:
        lines = [f"Request {request_id} is over, and too many came after it."]
    return "\n".join(lines)


class EntryScreen(ModalScreen[None]):
    """One request, read again each second."""

    BINDINGS: ClassVar = [("escape,q,enter", "dismiss", "Back")]

    def __init__(self, attached: AttachedServer, request_id: int, every_s: float) -> None:
        super().__init__()
        self._attached = attached
        self._request_id = request_id
        self._every_s = every_s

    def compose(self) -> ComposeResult:
        """Lay out."""
        with VerticalScroll(id="entry"):
            yield Label(f"request {self._request_id}   (Esc: back)", id="entry-title")
            yield Static("", id="entry-text", markup=False)

    def on_mount(self) -> None:
        """Begin to read."""
        self._read()
        self.set_interval(self._every_s, self._read)

    def _read(self) -> None:
        self.query_one("#entry-text", Static).update(describe(self._attached, self._request_id))


class Question(ModalScreen[str]):
    """Asks before something is changed. Its result is what was typed; empty: leave it."""

    BINDINGS: ClassVar = [("escape", "leave", "No")]

    def __init__(self, text: str, accepted: str) -> None:
        super().__init__()
        self._text = text
        self._accepted = accepted

    def compose(self) -> ComposeResult:
        """Lay out."""
        with Vertical(id="question"):
            yield Label(self._text, markup=False)
            yield Input(max_length=1, restrict=f"[{self._accepted}]", id="answer")

    def on_mount(self) -> None:
        """Wait for the answer."""
        self.query_one(Input).focus()

    def on_input_submitted(self, event: Any) -> None:
        """Enter."""
        self.dismiss(event.value)

    def action_leave(self) -> None:
        """Esc."""
        self.dismiss("")

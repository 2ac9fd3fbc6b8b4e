# SPDX-License-Identifier: Apache-2.0
"""The main screen of `cubbyhole top`.

    what the server is, and its memory
    requests/s, failures/s, waiting      a minute each, as sparklines
    processes | queues and latencies
    every request under way              sort, filter, look into one, cancel or rank it anew

Flow:  Reader.look, each `every_s` -> tables;  keys -> screens.py, operating.py
Owns:  the order, the filter and the cursor. The server is read only, but for what is asked of its supervisor.
See:   docs/guide/seeing.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import App
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.coordinate import Coordinate
from textual.widgets import DataTable, Footer, Input, Label, Sparkline, Static

from cubbyhole.cli.facts import duration, size
from cubbyhole.cli.live import operating
from cubbyhole.cli.live.lines import LineTable
from cubbyhole.cli.live.reading import Look, Reader
from cubbyhole.cli.live.screens import EntryScreen, Question

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.app import ComposeResult
    from textual.events import Resize

    from cubbyhole.seen.attached import AttachedServer

PROCESS_COLUMNS = (
    "process",
    "state",
    "pid",
    "kernel",
    "CPU %",
    "MB",
    "beat s",
    "restarts",
    "holds",
)
QUEUE_COLUMNS = ("endpoint", "class", "waiting", "running", "oldest")
LATENCY_COLUMNS = ("endpoint", "phase", "p50", "p95", "p99")
WORDY = frozenset(  # columns whose cells begin, not end, below each other
    ("process", "state", "kernel", "holds", "endpoint", "phase", "request")
)
# title -> key of an entry's mapping
ENTRY_COLUMNS = {
    "request": "id",
    "endpoint": "endpoint",
    "state": "state",
    "age": "age_ms",
    "left": "deadline_left_ms",
    "worker": "worker",
    "process": "worker_process",
    "try": "attempt",
    "in": "request_bytes",
    "out": "result_bytes",
    "chunks": "chunks",
    "class": "class",
    "rank": "rank",
}
ILL = frozenset(("stopped", "dead", "traced", "error"))  # of a process
# What the guides and the inspector's page call a state; the filter takes either.
WORDS = {"writing": "arriving", "ready": "waiting", "claimed": "running", "done": "answered"}
SHOWN_ENTRIES = (
    200  # a screen has some fifty lines; more only makes it slow, and the filter looks at all
)
NARROW = 120  # columns: below, what needs the room most keeps it


class TopApp(App[None]):
    """The screen."""

    TITLE = "cubbyhole top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { height: auto; padding: 0 1; }
    #lines { height: 3; }
    #lines Vertical { padding: 0 1; }
    #lines Sparkline { height: 2; }
    #middle { height: auto; max-height: 40%; }
    #processes { width: auto; max-width: 66%; height: auto; max-height: 100%; }
    #side { width: 1fr; height: auto; max-height: 100%; margin-left: 1; }
    #queues, #latencies { height: auto; max-height: 12; }
    #latencies.empty { display: none; }
    .narrow #lines, .narrow #latencies { display: none; }
    .narrow #middle { layout: vertical; max-height: 12; }
    .narrow #processes { width: 100%; max-width: 100%; max-height: 7; }
    .narrow #side { width: 100%; margin-left: 0; max-height: 5; }
    DataTable { scrollbar-size: 1 1; }
    #filter { display: none; height: 3; }
    #filter.shown { display: block; }
    #entries { height: 1fr; border-top: solid $primary; }
    #entry { width: 90%; height: 80%; border: round $primary; background: $surface; padding: 1 2; }
    #question { width: 70; height: auto; border: round $warning; background: $surface; padding: 1 2; }
    EntryScreen, Question { align: center middle; }
    """
    BINDINGS: ClassVar = [
        ("s", "sort", "Sort"),
        ("r", "turn", "Reverse"),
        ("slash", "filter", "Filter"),
        ("enter", "open", "Look into"),
        ("c", "cancel", "Cancel"),
        ("p", "rank", "Priority"),
        ("space", "pause", "Pause"),
        ("q", "quit", "Quit"),
        Binding("escape", "everything", "No filter", show=False),
    ]

    def __init__(self, attached: AttachedServer, every_s: float = 1.0) -> None:
        super().__init__()
        self.attached = attached
        self.every_s = every_s
        self.paused = False
        self.sorted_by = "age"
        self.turned = True  # the oldest first
        self.wanted = ""
        self.reader = Reader(attached)
        self.seen: Look | None = None
        self._admin = operating.address_of(attached.description)

    def compose(self) -> ComposeResult:
        """Lay out."""
        yield Static("", id="head", markup=False)
        with Horizontal(id="lines"):
            for name in ("requests", "failures", "waiting"):
                with Vertical():
                    yield Label(name, id=f"{name}-label")
                    yield Sparkline([0], id=f"{name}-line", summary_function=max)
        with Horizontal(id="middle"):
            yield LineTable("processes")
            with Vertical(id="side"):
                yield LineTable("queues")
                yield LineTable("latencies")
        yield Input(
            placeholder="part of an id, path, state or worker (Enter: keep, Esc: all)", id="filter"
        )
        yield LineTable("entries", chosen=True)
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look."""
        self._table("entries").focus()
        self.look()
        self.set_interval(self.every_s, self.look)

    def look(self) -> None:
        """Read the server and show it."""
        if not self.paused:
            self.seen = self.reader.look()
        self.show()

    def show(self) -> None:
        """Show the last look."""
        seen = self.seen
        if seen is None or not self.screen_stack or not self.screen_stack[0].query("#entries"):
            return  # the screen is not there yet, or no more
        self.screen_stack[0].query_one("#head", Static).update("\n".join(seen.head))
        most = {name: f", at most {max(line):.0f}" for name, line in seen.lines.items()}
        labels = {
            "requests": f"requests {seen.rates['requests']:.1f}/s{most['requests']}, answers {seen.rates['answers']:.1f}/s",
            "failures": f"failures {seen.rates['failures']:.1f}/s{most['failures']}, chunks {seen.rates['chunks']:.1f}/s",
            "waiting": f"waiting {seen.lines['waiting'][-1]:.0f}{most['waiting']}",
        }
        for name, text in labels.items():
            self.screen_stack[0].query_one(f"#{name}-label", Label).update(text)
            self.screen_stack[0].query_one(f"#{name}-line", Sparkline).data = seen.lines[name]
        self._table("processes").fill(PROCESS_COLUMNS, seen.processes, left=WORDY, loud=ILL)
        self._table("queues").fill(QUEUE_COLUMNS, seen.queues, left=WORDY)
        latencies = self._table("latencies")
        latencies.set_class(not seen.latencies, "empty")
        latencies.fill(LATENCY_COLUMNS, seen.latencies, left=WORDY)
        self._show_entries(seen)

    def shown_entries(self) -> list[dict[str, Any]]:
        """Return the entries that pass the filter, in order."""
        found = [] if self.seen is None else self.seen.entries
        words = self.wanted.split()
        if words:
            found = [one for one in found if all(word in _words(one) for word in words)]
        if (
            self.sorted_by == "age"
        ):  # as they come; ages are read one after another, so that they could change places
            return found if self.turned else found[::-1]
        key = ENTRY_COLUMNS[self.sorted_by]
        return sorted(found, key=lambda one: _sortable(one[key]), reverse=self.turned)

    def _show_entries(self, seen: Look) -> None:
        table = self._table("entries")
        chosen = self._chosen()
        shown = self.shown_entries()
        ids = [one["id"] for one in shown[:SHOWN_ENTRIES]]
        cells = [
            tuple(_cell(title, one[key]) for title, key in ENTRY_COLUMNS.items())
            for one in shown[:SHOWN_ENTRIES]
        ]
        table.fill(tuple(ENTRY_COLUMNS), cells, left=WORDY, keys=list(map(str, ids)))
        if chosen in ids:
            table.move_cursor(row=ids.index(chosen))
        table.border_title = self._title(len(shown), seen)

    def _title(self, found: int, seen: Look) -> str:
        """Return what the table of requests has, and what it leaves out."""
        of = f"{seen.under_way:,} requests under way, by {self.sorted_by}"
        if found <= SHOWN_ENTRIES:
            text = f"{found:,} of {of}"
        elif found == seen.under_way:
            text = f"the first {SHOWN_ENTRIES} of {of}"
        else:
            text = f"the first {SHOWN_ENTRIES} of {found:,} found in {of}"
        if seen.under_way > len(seen.entries):
            text += f" (the youngest {seen.under_way - len(seen.entries):,} are left out)"
        text += f", with {self.wanted!r}" if self.wanted else ""
        return text + ("   PAUSED, space goes on" if self.paused else "   Enter looks into one")

    # Keys.

    def action_sort(self) -> None:
        """Sort by the next column."""
        titles = list(ENTRY_COLUMNS)
        self.sorted_by = titles[(titles.index(self.sorted_by) + 1) % len(titles)]
        self.show()

    def action_turn(self) -> None:
        """Turn the order round."""
        self.turned = not self.turned
        self.show()

    def action_pause(self) -> None:
        """Stop looking, or go on."""
        self.paused = not self.paused
        self.show()

    def action_filter(self) -> None:
        """Ask for a part of what is to be seen."""
        box = self.query_one("#filter", Input)
        box.add_class("shown")
        box.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """While it is typed."""
        if event.input.id == "filter":
            self.wanted = event.value.strip().lower()
            self.show()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Back to the table."""
        if event.input.id == "filter":
            event.input.set_class(bool(event.value), "shown")
            self._table("entries").focus()

    def action_everything(self) -> None:
        """Leave the filter."""
        box = self.query_one("#filter", Input)
        box.value = ""
        box.remove_class("shown")
        self._table("entries").focus()

    def on_resize(self, event: Resize) -> None:
        """Use a small terminal for what matters most."""
        self.screen_stack[0].set_class(event.size.width < NARROW, "narrow")

    def on_data_table_row_selected(self, _event: DataTable.RowSelected) -> None:
        """Enter, in the table."""
        self.action_open()

    def action_open(self) -> None:
        """Look into one request."""
        chosen = self._chosen()
        if chosen is not None:
            self.push_screen(EntryScreen(self.attached, chosen, self.every_s))

    def action_cancel(self) -> None:
        """Cancel one request, after a question."""
        chosen = self._chosen()
        if chosen is None or not self._can_operate():
            return

        def answered(answer: str | None) -> None:
            if answer == "y":
                self._operate(lambda: operating.cancel(self._admin, chosen))

        self.push_screen(Question(f"Cancel request {chosen}? y, Enter. (Esc: no)", "yn"), answered)

    def action_rank(self) -> None:
        """Give one request another class, after a question."""
        chosen = self._chosen()
        if chosen is None or not self._can_operate():
            return

        def answered(answer: str | None) -> None:
            if answer and answer.isdigit():
                self._operate(lambda: operating.rerank(self._admin, chosen, int(answer)))

        text = f"Class of request {chosen}, 0 (most urgent) to 9? Digit, Enter. (Esc: leave it)"
        self.push_screen(Question(text, "0-9"), answered)

    def _operate(self, ask: Callable[[], str]) -> None:
        """Ask in a thread, as the supervisor may hang, and show what came of it."""

        def work() -> None:
            self.call_from_thread(self.notify, ask())

        self.run_worker(work, thread=True)

    def _can_operate(self) -> bool:
        if not self._admin:
            self.notify(
                "This server takes no operations; it can only be looked at.", severity="warning"
            )
        return bool(self._admin)

    def _chosen(self) -> int | None:
        table = self._table("entries")
        if not table.row_count or table.cursor_row < 0:
            return None
        key = table.coordinate_to_cell_key(Coordinate(table.cursor_row, 0)).row_key.value
        return None if key is None else int(key)

    def _table(self, name: str) -> LineTable:
        return self.screen_stack[0].query_one(f"#{name}", LineTable)


def _words(entry: dict[str, Any]) -> str:
    keys = ("id", "endpoint", "state", "worker", "worker_process")
    said = [str(entry[key]).lower() for key in keys]
    return " ".join([*said, WORDS.get(entry["state"], ""), f"worker {entry['worker']}"])


def _sortable(value: Any) -> tuple[bool, float, str]:
    if isinstance(value, (int, float)):
        return (True, float(value), "")
    return (value is not None, 0.0, str(value))


def _cell(title: str, value: Any) -> str:
    if value is None:
        return "-"
    if title in ("age", "left"):
        return duration(value / 1e3)
    if title in ("in", "out"):
        return size(value)
    return str(value + 1 if title == "try" else value)


def run_top(attached: AttachedServer, every_s: float) -> None:
    """Show a server until q is pressed."""
    TopApp(attached, every_s).run()

"""What `./dev up` shows: on a terminal a table that fills, elsewhere one plain line for each thing that happens."""

import sys
import time

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text


class Screen:
    """The progress of a start, then whatever has to be said."""

    def __init__(self, names: list[str]) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._began = time.monotonic()
        self._started: dict[str, float] = {}
        self._took: dict[str, float] = {}
        self._names = names
        self._live = Live(console=self._console, get_renderable=self._table, refresh_per_second=10, transient=True)
        self._spinner = Spinner("dots", style="cyan")
        if self._console.is_terminal:
            self._live.start()

    def starting(self, name: str) -> None:
        """A part is being started."""
        self._started[name] = time.monotonic()

    def answered(self, name: str) -> None:
        """A part answers."""
        self._took[name] = time.monotonic() - self._started[name]
        if not self._console.is_terminal:
            self.say(f"  {name:<10} up after {self._took[name]:4.1f} s")

    def ready(self, line: str) -> None:
        """All of it answers."""
        self.close()
        self.say(f"all of it is up after {time.monotonic() - self._began:.1f} s; Ctrl-C stops it")
        self.say(line)

    def say(self, text: str) -> None:
        """Show a line, or several. A reader that has gone is no reason to stop."""
        try:
            self._console.print(Text(text))
            sys.stdout.flush()
        except OSError:
            pass

    def close(self) -> None:
        """No more table."""
        self._live.stop()

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for name in self._names:
            if name in self._took:
                table.add_row(Text("✓", style="green"), name, Text(f"{self._took[name]:.1f} s", style="dim"))
            elif name in self._started:
                seconds = time.monotonic() - self._started[name]
                table.add_row(self._spinner, name, Text(f"{seconds:.0f} s", style="cyan"))
            else:
                table.add_row(" ", Text(name, style="dim"), "")
        return table

"""What the reader sees while lectures run: live bars in a terminal, one plain line per lecture elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Display:
    """An overall bar over lectures, and a bar over the cells of each running lecture with its section.

    Everything goes to standard error. Where that is no terminal nothing is animated.
    """

    def __init__(self, lectures: int) -> None:
        """For a run of that many lectures."""
        console = Console(stderr=True)
        self._live = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[section]}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._overall = self._live.add_task("lectures", total=lectures, section="")
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> Display:
        """Start to draw."""
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bars away; the printed lines stay."""
        self._live.stop()

    def begin(self, name: str) -> None:
        """A lecture starts."""
        self._bars[name] = self._live.add_task(name, total=None, section="")

    def cell(self, name: str, index: int, total: int, section: str) -> None:
        """Cell number ``index`` of ``total`` of a running lecture starts, under the heading ``section``."""
        self._live.update(self._bars[name], completed=index, total=total, section=section)

    def end(self, name: str, line: str) -> None:
        """A lecture has ended; ``line`` says how and stays on the screen."""
        if name in self._bars:
            self._live.remove_task(self._bars.pop(name))
        self._live.advance(self._overall)
        self.say(line)

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)

"""Command lines, from penctl or a file, carried out once the names in them are resolved.

While pen runs nobody may wait for a name server: the names that lines need are looked up in the background,
and then the lines are carried out, all at once.
"""

from collections.abc import Callable

from penlib.balancer import commands, config
from penlib.balancer.arguments import PREFIX, shown
from penlib.balancer.steered import Steered
from penlib.errors import PenError


class Executor:
    """Of one pen."""

    def __init__(self, pen: Steered) -> None:
        self._pen = pen
        self._newest: list[config.Line] = []
        """What was to be re-read last."""

    def execute(self, line: str, then: Callable[[str], None]) -> None:
        """Carry out a command line as soon as its names are resolved; `then` gets the reply."""

        def run() -> None:
            try:
                reply = commands.execute(self._pen, line) or ""
            except PenError as exc:
                reply = shown(str(exc))
            then(reply)

        self._when_resolved([config.Line("", line)], run)

    def reread(self, lines: list[config.Line]) -> None:
        """Carry out a configuration file again: the access lists that it names are emptied first.  If
        it is read once more while names are being resolved, only what was read last counts."""
        self._newest = lines

        def then() -> None:
            if lines is not self._newest:
                return
            acls = self._pen.selection.acls
            for number in config.lists_named(lines):
                if number.isdigit() and int(number) < len(acls):
                    acls[int(number)].clear()
            self.apply(lines)

        self._when_resolved(lines, then)

    def apply(self, lines: list[config.Line]) -> None:
        """Carry out `lines` now, and say what is wrong in them."""
        for wrong in config.apply(self._pen, lines):
            self._pen.reporter.warn(wrong)

    def include(self, name: str) -> str | None:
        """Carry out a file's commands; answers what was wrong in it.  Raises PenError."""
        wrong = config.apply(self._pen, config.read(name, self._pen))
        return PREFIX + "\n".join(wrong) if wrong else None

    def _when_resolved(self, lines: list[config.Line], then: Callable[[], None]) -> None:
        lines = lines + self._included(lines)
        wanted = [host for line in lines for host in commands.hosts(line.text, self._pen.protocol)]
        self._pen.names.prefetch(wanted, then)

    def _included(self, lines: list[config.Line]) -> list[config.Line]:
        found = []
        for line in lines:
            words = line.text.split()
            if words[:1] == ["include"] and len(words) == 2:
                try:
                    found += config.read(words[1], self._pen)
                except PenError:
                    continue  # said when it is carried out
        return found

"""What a process asks of the kernel, counted and listed by strace."""

import re
from pathlib import Path

CALL = re.compile(r"^(?:\d+ +)?(?:[\d.]+ +)?(?P<name>\w+)\((?P<args>.*)")


class Trace:
    """The file that `strace -o` writes; `wrap` are the words to run a program under, which keeps its pid."""

    def __init__(self, directory: Path, *, calls: str = "") -> None:
        self.file = directory / "trace"
        self.wrap = ["strace", "-D", "-f", "-o", str(self.file), *(["-e", f"trace={calls}"] if calls else [])]

    def calls(self) -> list[tuple[str, str]]:
        """Each system call so far: its name, and the rest of its line."""
        lines = self.file.read_text(errors="replace").splitlines()
        return [(match["name"], match["args"]) for line in lines if (match := CALL.match(line))]

    def names(self) -> list[str]:
        return [name for name, _ in self.calls()]

    def with_name(self, name: str) -> list[str]:
        """The arguments and results of every call of that name."""
        return [args for called, args in self.calls() if called == name]

"""How the demo looks: 80 columns, colour only on a terminal and without NO_COLOR.

Colours tell the web servers apart and nothing else that is not also said in words.
"""

import os
import sys

STYLES = {"bold": "1", "dim": "2", "good": "32", "bad": "1;31", "web1": "36", "web2": "35", "web3": "33"}
WIDTH = 80
COLOURED = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def paint(text: str, style: str) -> str:
    """`text` in the colour or weight of that name, where the terminal has such."""
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if COLOURED and style in STYLES else text


def show(text: str = "") -> None:
    """Print a line or several, at once, as somebody is watching."""
    print(text, flush=True)


def heading(text: str) -> None:
    """Begin a part of the story."""
    show(f"\n{paint(text, 'bold')}\n")


def row(head: str, cells: list[str]) -> str:
    """A table row: cells that are the names of servers get the servers' colours."""
    return f"  {head:<6}" + "".join(paint(f"{cell:<10}", cell) for cell in cells).rstrip()


def command(words: list[str]) -> str:
    """A command line as one would type it, folded where it is too long."""
    lines = ["  $"]
    for word in words:
        if len(lines[-1]) + len(word) > WIDTH - 4:
            lines[-1] += " \\"
            lines.append("     ")
        lines[-1] += f" {word}"
    return "\n".join(lines)

"""The interpreter under which pen and the log tools are measured: the system's own where it will do.

Debian builds its Python with PGO, which is worth as much as compiling; what somebody has put on the PATH
often has none.
"""

import os
import sys
from pathlib import Path

import docopt

from bench.process import output_of

SYSTEM = Path("/usr/bin/python3")
ENOUGH = "import sys; print(sys.version_info[:2] >= (3, 11))"
VERSION = "import sys; print(*sys.version.split())"


def find_interpreter() -> str:
    """The system's, or else the one that runs this."""
    enough = SYSTEM.exists() and output_of(str(SYSTEM), "-c", ENOUGH) == "True"
    return str(SYSTEM) if enough else sys.executable


INTERPRETER = find_interpreter()


def described() -> str:
    """Its path and version, with its date and compiler."""
    return f"{Path(INTERPRETER).resolve()}, Python {output_of(INTERPRETER, '-c', VERSION)}"


def environment() -> dict[str, str]:
    """For all that is measured: no language, UTC, Python as it is by itself but for what pen requires."""
    file = Path(docopt.__file__)
    place = file.parents[1 if file.stem == "__init__" else 0]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "PYTHONPATH": str(place), "LC_ALL": "C", "TZ": "UTC"}

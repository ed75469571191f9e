"""How many connections a pen may carry: as many as there are descriptors for."""

from penlib import process
from penlib.balancer.settings import Options, Settings
from penlib.loop import FD_SETSIZE
from penlib.report import Reporter

RESERVE = 64
"""Descriptors for everything but connections: listeners, log, control, pipes, the interpreter."""


def limit(options: Options, settings: Settings, mechanism: str, reporter: Reporter) -> None:
    """Raise the limit of open files to what `settings.conn_max` needs; where that can't be, reduce it, and
    say so."""
    reserve = RESERVE + settings.idlers
    each = 1 if options.udp else 2
    wanted = each * settings.conn_max + reserve
    if mechanism == "select":
        wanted = min(wanted, FD_SETSIZE)
    there_are = process.raise_descriptor_limit(wanted)
    if mechanism == "select":
        there_are = process.lower_descriptor_limit(FD_SETSIZE)
    room = max(1, (there_are - reserve) // each)
    if room < settings.conn_max:
        reporter.warn(
            f"-x {settings.conn_max}: reduced to {room}, there are {there_are} descriptors"
            f"{' for select()' if mechanism == 'select' else ''}"
        )
        settings.conn_max = room

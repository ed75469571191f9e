"""What a running pen tells of itself: lists for penctl, statistics for USR1, the HTML status page.

Everything is first data (`server_rows`, `client_rows`, `connection_rows`: lists of dicts), then text.
"""

import html
from collections.abc import Iterable, Mapping
from typing import Any

from penlib import address, clock
from penlib.balancer.steered import Steered

Row = dict[str, Any]


def server_rows(pen: Steered) -> list[Row]:
    """One row per configured server."""
    pen.traffic.count_all()
    now = clock.monotonic()
    return [
        {
            "server": server.index,
            "addr": server.name,
            "port": server.port,
            "conn": server.connections,
            "max": server.max,
            "hard": server.hard,
            "weight": server.weight,
            "prio": server.prio,
            "sx": server.sent,
            "rx": server.received,
            "status": "blacklisted" if server.is_blacklisted(now) else "ok",
        }
        for server in pen.selection.servers
        if server.endpoint
    ]


def client_rows(pen: Steered, seconds: float) -> list[Row]:
    """One row per client seen in the last `seconds`, most recent last."""
    pen.traffic.count_all()
    now = clock.monotonic()
    return [
        {
            "number": client.number,
            "addr": address.unpack(client.packed) if client.packed else address.UNIX_CLIENT,
            "age": int(now - client.seen),
            "server": client.server,
            "connects": client.connects,
            "sx": client.sent,
            "rx": client.received,
        }
        for client in pen.clients.since(now - seconds)
    ]


def connection_rows(pen: Steered) -> list[Row]:
    """One row per connection."""
    rows = []
    for connection in pen.traffic.connections:
        pending_down, pending_up = pen.traffic.waiting(connection)
        row = {
            "connection": connection.number,
            "downfd": connection.down,
            "upfd": connection.up,
            "pending_down": pending_down,
            "pending_up": pending_up,
            "client": connection.address.decode(),
            "server": connection.server.index if connection.server else "-",
        }
        rows.append(row)
    return rows


def servers(pen: Steered) -> str:
    """The reply to `servers`."""
    keys = ("addr", "port", "conn", "max", "hard", "weight", "prio", "sx", "rx")
    return "\n".join(
        f"{row['server']} " + " ".join(f"{key} {row[key]}" for key in keys) for row in server_rows(pen)
    )


def recent(pen: Steered, seconds: int) -> str:
    """The reply to `recent`."""
    return "\n".join(
        f"{row['addr']} connects {row['connects']} sx {row['sx']} rx {row['rx']}"
        for row in client_rows(pen, seconds)
    )


def connection(pen: Steered, number: int) -> str:
    """The reply to `connection N`."""
    found = pen.traffic.connections.find(number)
    if found is None:
        state, down, up, client, server, pending = 0, -1, -1, -1, -1, 0
    else:
        state, down, up, client = found.state, found.down, found.up, found.client.number
        server = found.server.index if found.server else -1
        pending = sum(pen.traffic.waiting(found))
    return (
        f"Connection {number}:\nstate = {state}\ndownfd = {down}, upfd = {up}\n"
        f"client = {client}, server = {server}\npend = {pending}"
    )


def statistics(pen: Steered) -> str:
    """What USR1 prints: the servers, then the totals."""
    lines = [f"{pen.options.listen}: {len(pen.clients)} clients, {len(pen.traffic.connections)} connections"]
    lines += [
        f"{row['status']} {line}"
        for row, line in zip(server_rows(pen), servers(pen).split("\n"), strict=False)
    ]
    return "\n".join(lines)


STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; color: #1c2733 }
body { margin: 2em auto; max-width: 64em; padding: 0 1em }
h1 { font-size: 1.5em; margin-bottom: 0 } h2 { font-size: 1.15em; margin-top: 2em }
p { color: #5b6875; margin-top: .3em }
table { border-collapse: collapse; width: 100% }
th, td { text-align: right; padding: .35em .7em; border-bottom: 1px solid #e3e7eb; white-space: nowrap }
th { background: #f2f5f7; font-weight: 600 } th.text, td.text { text-align: left }
tr.blacklisted td { background: #fdecea }
td.status::before { content: "\\25cf\\a0"; color: #2e8b57 }
tr.blacklisted td.status::before { color: #c0392b }
""".strip()

SERVER_COLUMNS = {
    "server": "server", "addr": "address", "port": "port", "status": "status", "conn": "connections",
    "max": "max soft", "hard": "max hard", "weight": "weight", "prio": "prio", "sx": "sent", "rx": "received",
}  # fmt: skip
CLIENT_COLUMNS = {
    "number": "client", "addr": "address", "age": "age (s)", "server": "last server", "connects": "connects",
    "sx": "sent", "rx": "received",
}  # fmt: skip
CONNECTION_COLUMNS = {
    "connection": "connection", "client": "client", "server": "server", "downfd": "downfd", "upfd": "upfd",
    "pending_down": "pending down", "pending_up": "pending up",
}  # fmt: skip
TEXT = {"addr", "status", "client"}
"""Columns that are words and not numbers."""


def page(pen: Steered) -> str:
    """The HTML status page."""
    now = clock.date(clock.now())
    rows = server_rows(pen)
    connections = connection_rows(pen)
    clients = client_rows(pen, clock.monotonic())[::-1]
    listen = html.escape(str(pen.options.listen or ""))
    parts = [
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Pen status page</title>\n'
        f"<style>\n{STYLE}\n</style>\n</head>\n<body>\n<h1>Pen status page</h1>\n"
        f"<p>Time {now}, listening on {listen}, {len(rows)} servers</p>",
        _table("Servers", SERVER_COLUMNS, rows),
        _table(
            f"Active connections: {len(connections)} of {pen.settings.conn_max}",
            CONNECTION_COLUMNS,
            connections,
        ),
        _table(f"Active clients: {len(clients)} of {pen.clients.limit}", CLIENT_COLUMNS, clients),
        "</body>\n</html>",
    ]
    return "\n".join(parts)


def _table(title: str, columns: Mapping[str, str], rows: Iterable[Row]) -> str:
    head = "".join(f"<th{_class(key)}>{text}</th>" for key, text in columns.items())
    lines = [f"<h2>{title}</h2>", "<table>", f"<thead><tr>{head}</tr></thead>", "<tbody>"]
    for row in rows:
        cells = "".join(f"<td{_class(key)}>{html.escape(str(row[key]))}</td>" for key in columns)
        lines.append(f"<tr{' class=blacklisted' if row.get('status') == 'blacklisted' else ''}>{cells}</tr>")
    return "\n".join([*lines, "</tbody>", "</table>"])


def _class(key: str) -> str:
    if key == "status":
        return ' class="text status"'
    return ' class="text"' if key in TEXT else ""

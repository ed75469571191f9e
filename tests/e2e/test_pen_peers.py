"""pen between programs that it knows nothing of: nginx, Apache httpd, curl, netcat."""

import random
import subprocess

from support.ports import free_port, listens
from support.process import run
from support.programs import needs
from support.waiting import wait_until
from support.webserver import apache, nginx

CLIENTS = [f"127.0.4.{number}" for number in range(1, 9)]


def curl(pen, source, *words, path="/index.html"):
    done = run(["curl", "-sS", "--interface", source, *words, "http://{}:{}{}".format(*pen.address, path)])
    assert (done.code, done.err) == (0, "")
    return done.out


@needs("nginx", "apache2", "curl")
def test_clients_of_two_web_servers(lab):
    """Each client comes back to its own server, both servers have clients, and the log tells who asked."""
    lab.write("index.html", "apache")
    servers = [nginx(lab, host="127.0.1.1"), apache(lab, "/dev/null", host="127.0.1.2")]
    pen = lab.pen("-l", "pen.log", servers=servers)
    first = [curl(pen, client) for client in CLIENTS]
    assert sorted(set(first)) == ["apache", "nginx"]
    assert [curl(pen, client, "-H", "Connection: close") for client in CLIENTS] == first
    for client, body in zip(CLIENTS, first, strict=True):
        server = {"nginx": "127.0.1.1", "apache": "127.0.1.2"}[body]
        pen.log_contains(rf"^{client} \d+ {server} GET /index.html HTTP/1\.1$", times=2)


@needs("apache2", "curl")
def test_large_files(lab):
    (lab.directory / "large").write_bytes(random.Random(2).randbytes(20_000_000))
    pen = lab.pen("-l", "pen.log", servers=[apache(lab, "/dev/null")])
    curl(pen, CLIENTS[0], "-o", str(lab.directory / "copy"), path="/large")
    assert (lab.directory / "copy").read_bytes() == (lab.directory / "large").read_bytes()
    curl(pen, CLIENTS[0], "-r", "5000000-9999999", "-o", str(lab.directory / "part"), path="/large")
    assert (lab.directory / "part").read_bytes() == (lab.directory / "large").read_bytes()[
        5_000_000:10_000_000
    ]
    pen.log_contains(r"GET /large HTTP/1\.1$", times=2)


@needs("nginx", "curl")
def test_several_requests_on_one_connection(lab):
    server = nginx(lab)
    pen = lab.pen("-l", "pen.log", servers=[server])
    url = "http://{}:{}/".format(*pen.address)
    done = run(["curl", "-sS", "-v", *[f"{url}{number}" for number in range(10)]])
    assert done.code == 0
    assert done.out == "nginx" * 10
    assert done.err.count("Re-using existing connection") == 9
    pen.log_contains(r"GET /\d HTTP/1\.1$", times=10)


@needs("nc")
def test_netcat_at_both_ends(lab):
    """A half-close on either side is all that tells the other where the file ends."""
    port = free_port()
    there, back = (random.Random(seed).randbytes(3_000_000) for seed in (1, 2))
    (lab.directory / "there").write_bytes(there)
    (lab.directory / "back").write_bytes(back)
    server = lab.spawn(["sh", "-c", f"exec nc -N -l 127.0.0.1 {port} < back > got"])
    wait_until(lambda: listens(server.pid, port))
    pen = lab.pen(servers=[f"127.0.0.1:{port}"])
    host, listener = pen.address
    with (lab.directory / "there").open("rb") as sent:
        done = subprocess.run(
            ["nc", "-N", host, str(listener)], stdin=sent, capture_output=True, timeout=30, check=True
        )
    assert done.stdout == back
    assert server.wait() == 0
    assert (lab.directory / "got").read_bytes() == there

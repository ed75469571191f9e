"""soak - a long text through webresolve and splitwr, with an eye on their memory

Usage:
  soak [--megabytes N] [--addresses N]
  soak --help | --version

Options:
  --megabytes N   how much text [default: 1000]
  --addresses N   how many different addresses are in it [default: 50000]

Fails if a line is lost, or if memory still grows after the first tenth.  Not a part of `make test`: it takes
minutes.
"""

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.nameserver import NameServer, Reply, named  # noqa: E402

from penlib.frame import run  # noqa: E402
from penlib.usage import Args  # noqa: E402

MEGABYTE = 1 << 20
GROWTH = 8 * MEGABYTE
"""Bytes by which memory may grow after the first tenth, when all addresses have been seen."""


def main(args: Args) -> int:
    """Both tools; 0 if both are well."""
    size, addresses = int(args["--megabytes"]) * MEGABYTE, int(args["--addresses"])
    return max(soak(tool, size, addresses) for tool in ("webresolve", "splitwr"))


def soak(tool: str, size: int, addresses: int) -> int:
    """One tool; prints what it took, and answers 1 if that was not right."""
    server = NameServer(answer)
    words = [sys.executable, str(ROOT / "bin" / tool), "-s", str(server), "-"]
    began = time.monotonic()
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        written: list[int] = []
        feeder = threading.Thread(target=feed, args=(process.stdin, size, addresses, written))
        feeder.start()
        lines = names = taken = early = peak = 0
        assert process.stdout
        while data := process.stdout.read(MEGABYTE):
            lines += data.count(b"\n")
            names += data.count(b".example - -")
            taken += len(data)
            peak = memory(process.pid) or peak
            if not early and taken > size // 10:
                early = peak
        feeder.join()
    server.close()
    seconds = time.monotonic() - began
    print(
        f"{tool}: {taken / 1e6:,.0f} MB, {lines:,} lines, {names:,} with a name, {addresses:,} addresses in "
        f"{seconds:.0f} s; memory {early / 1e6:.1f} MB after a tenth, {peak / 1e6:.1f} MB at most",
        flush=True,
    )
    good = process.returncode == 0 and lines == sum(written) and peak <= early + GROWTH and 0 < names < lines
    if not good:
        print(f"{tool}: that is wrong: exit {process.returncode}, {sum(written):,} lines were written to it")
    return int(not good)


def answer(name: str, kind: str) -> Reply:
    """Every second address has a name."""
    labels = name.split(".")
    return named(f"host-{'-'.join(labels[:4])}.example") if int(labels[0]) % 2 else Reply(rcode=3)


def feed(pipe: "object", size: int, addresses: int, written: list[int]) -> None:
    """Write that much text, every address early on."""
    rng = random.Random(1)
    hosts = [f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}" for n in range(addresses)]
    tail = ' - - [14/Nov/2023:22:13:20 +0000] "GET /some/page.html HTTP/1.1" 200 1234 "-" "Mozilla/5.0"\n'
    texts = ["".join(host + tail for host in hosts)]
    texts += ["".join(rng.choice(hosts) + tail for _ in range(10_000)) for _ in range(20)]
    blocks = [text.encode() for text in texts]
    counts = [block.count(b"\n") for block in blocks]
    done = turn = 0
    with os.fdopen(os.dup(pipe.fileno()), "wb", 0) as out:  # type: ignore[attr-defined]
        pipe.close()  # type: ignore[attr-defined]
        while done < size:
            at = 0 if turn == 0 else 1 + rng.randrange(20)
            view = memoryview(blocks[at])
            while view:
                view = view[out.write(view) or 0 :]
            written.append(counts[at])
            done += len(blocks[at])
            turn += 1


def memory(pid: int) -> int:
    """The most bytes that a process had resident until now; 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    return int(found[0]) * 1024 if found else 0


if __name__ == "__main__":
    sys.exit(run("soak", __doc__, main))

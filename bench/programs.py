"""Which programs take part, and which are used: a line each for the report."""

from bench.lab import Lab
from bench.peers import original, version_of
from bench.process import find, output_of
from bench.proxies import nginx_version

PACKAGES = {"adnslogres": "adns-tools", "jdresolve": "jdresolve", "logresolve": "apache2-utils"}
CLIENTS = {"dnsperf": "dnsperf", "nsd": "nsd"}


def versions(lab: Lab) -> list[str]:
    """Of who is measured, who measures, and what was left out."""
    lines = [f"{peer.name}: {peer.version()}" for peer in (*lab.pens, *lab.others.values())]
    if original("mergelogs"):
        lines.append(f"mergelogs 0.34.1, penlogd 0.34.1: Debian's pen {version_of('pen')}")
    lines += [
        f"{name}: Debian's {PACKAGES[name]} {version_of(PACKAGES[name])}" for name in PACKAGES if find(name)
    ]
    used = [f"{name} {version_of(package)}" for name, package in CLIENTS.items() if find(name)]
    if find("wrk"):
        used.append(f"wrk {output_of(find('wrk'), '-v').split()[1]}")
    if find("nginx"):
        used.append(f"nginx {nginx_version()}")
    if used:
        lines.append(f"clients and servers: {', '.join(used)}")
    return lines + [f"skipped: {line}" for line in lab.skipped]

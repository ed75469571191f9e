"""The recipes of doc/howto.md for web servers, letter by letter, with Apache httpd and nginx behind pen, and
curl and openssl before it."""

import contextlib
import http.client
import shutil

import pytest
from support.network import come_from, ip
from support.programs import needs
from support.recipes import ADDRESSES, VISITORS, excerpt, recipe
from support.waiting import wait_until
from support.webserver import APACHE_TLS, NGINX_TLS, apache, nginx

pytestmark = needs("root", "unshare", "mount", "ip", "apache2", "nginx", "curl")

HOST1, HOST2, LBHOST = ADDRESSES["host1"], ADDRESSES["host2"], ADDRESSES["lbhost"]
BY_TURNS = ["apache", "nginx"] * 3
"""What the visitors see, in turn."""


@pytest.fixture
def servers(lab, shell, ca):
    """Start Apache httpd on host1 and nginx on host2, for HTTP and HTTPS, with more lines for their
    configurations; both say who they are.  They see connections come from lbhost."""
    come_from(LBHOST, [HOST1, HOST2])
    both, under = ca.issue("lbhost").both, shell[:-2]

    def start(apache_more="", nginx_more="", form="combined"):
        directory = lab.directory / "host1"
        directory.mkdir()
        (directory / "page").write_text("apache")
        more = APACHE_TLS.format(host=HOST1, both=both) + apache_more
        where = {"port": 80, "under": under}
        first = apache(lab, f"{directory}/log", HOST1, form, directory=directory, more=more, **where)
        more = NGINX_TLS.format(host=HOST2, both=both) + nginx_more
        return first, nginx(lab, f"{lab.directory}/host2.log combined", HOST2, "host2", more=more, **where)

    return start


@pytest.fixture
def curl(lab, typed, ca):
    """Ask as each of these visitors; the bodies."""
    how = f"curl -sS --max-time 20 --cacert {ca.cert} --write-out '\\n'"

    def ask(url, *sources):
        return typed(" && ".join(f"{how} --interface {source} {url}" for source in sources)).out.split()

    return ask


def seen(curl, url):
    """The servers that the visitors get."""
    return curl(url, *VISITORS.values())


def die(server):
    server.process.kill_tree()


def test_http(servers, typed, curl, lab):
    first, _ = servers()
    typed(recipe("HTTP")[0])
    assert seen(curl, "http://lbhost/page") == BY_TURNS
    assert seen(curl, "http://lbhost/page") == BY_TURNS, "they come back"
    with staying(VISITORS["visitor1.example"]) as visitor:
        assert get(visitor) == "apache"
        die(first)
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            get(visitor)
        visitor.close()
        assert get(visitor) == "nginx", "who tries again carries on"
    assert seen(curl, "http://lbhost/page") == ["nginx"] * 6
    log = lab.directory / "pen.log"
    wait_until(lambda: log.read_text().count(" GET /page HTTP/1.1\n") >= 20, "the log")


@contextlib.contextmanager
def staying(source):
    """A visitor who keeps his connection."""
    visitor = http.client.HTTPConnection(LBHOST, 80, timeout=20, source_address=(source, 0))
    with contextlib.closing(visitor):
        yield visitor


def get(visitor):
    visitor.request("GET", "/page")
    return visitor.getresponse().read().decode()


def test_the_servers_log_the_true_visitors(servers, typed, curl, lab):
    """By -H, and the lines that the page has for the servers; a visitor's own word is not taken for it."""
    module = "LoadModule remoteip_module /usr/lib/apache2/modules/mod_remoteip.so\n"
    servers(module + excerpt("HTTP", "apache"), excerpt("HTTP", "nginx"))
    typed(recipe("HTTP")[1])
    sources = list(VISITORS.values())
    for source in sources:
        typed(f"curl -sS --interface {source} -H 'X-Forwarded-For: 192.0.2.9' http://lbhost/page")
    for log, visitors in (("host1/log", sources[::2]), ("host2.log", sources[1::2])):
        wait_until(lambda log=log, visitors=visitors: clients(lab.directory / log) == visitors, log)


def clients(log):
    return [line.split()[0] for line in lines(log)]


def lines(log):
    return log.read_text().splitlines() if log.exists() else []


@needs("openssl")
def test_https_passed_through(servers, typed, curl, lab, ca):
    first, _ = servers()
    typed(recipe("HTTPS, passed through")[0])
    assert seen(curl, "https://lbhost/page") == BY_TURNS
    assert seen(curl, "https://lbhost/page") == BY_TURNS
    assert "Verification: OK" in handshake(typed, ca)
    assert lines(lab.directory / "pen.log")[0].startswith("127.0.9.1 ")
    die(first)
    assert seen(curl, "https://lbhost/page") == ["nginx"] * 6


def handshake(typed, ca):
    name = "-connect lbhost:443 -servername lbhost -verify_hostname lbhost"
    return typed(f"echo | openssl s_client {name} -CAfile {ca.cert} -verify_return_error").out


@needs("openssl")
def test_https_ended_at_the_balancer(servers, typed, curl, lab, ca):
    shutil.copy(ca.issue("lbhost").both, lab.directory / "mycert.pem")
    first, _ = servers(
        form="forwarded", nginx_more='location /proto { return 200 "$http_x_forwarded_proto"; }'
    )
    typed(recipe("HTTPS, ended at the balancer")[0])
    assert seen(curl, "https://lbhost/page") == BY_TURNS
    assert "Verification: OK" in handshake(typed, ca)
    expected = [f"{source} https GET /page HTTP/1.1" for source in list(VISITORS.values())[::2]]
    wait_until(lambda: lines(lab.directory / "host1" / "log")[:3] == expected, "Apache's log")
    assert lines(lab.directory / "pen.log")[0].endswith(" GET /page HTTP/1.1")
    die(first)
    assert seen(curl, "https://lbhost/page") == ["nginx"] * 6
    assert seen(curl, "https://lbhost/proto") == ["https"] * 6
    renewed = ca.issue("lbhost")
    shutil.copy(renewed.both, lab.directory / "mycert.pem")
    wait_until(lambda: renewed.cert.read_text().strip() in handshake(typed, ca), "the new certificate")


EVEN, ODD = [f"10.0.9.{number}" for number in range(1, 4)], list(VISITORS.values())
"""Visitors whose addresses begin with an even and an odd number, which is what decides between two."""


@pytest.fixture
def meeting(servers):
    """Those servers, and visitors from two networks."""
    ip("route add local 10.0.0.0/16 dev lo")
    return servers()


def parted(curl, scheme):
    """Whether the visitors are on the servers that their addresses say."""
    return curl(f"{scheme}://lbhost/page", *EVEN, *ODD) == ["apache"] * len(EVEN) + ["nginx"] * len(ODD)


@pytest.mark.parametrize("which", [0, 1], ids=["-h", "-N"])
def test_http_and_https_on_the_same_server(meeting, typed, curl, which):
    typed(recipe("HTTP and HTTPS on the same server")[which])
    assert parted(curl, "http")
    assert parted(curl, "https")
    assert parted(curl, "http"), "they come back"


@pytest.mark.parametrize("which", [0, 1], ids=["-h", "-N"])
def test_after_an_outage_only_those_that_are_not_remembered_go_back(meeting, lab, typed, curl, which):
    """As the page says. The outage is noticed by HTTP; who did not use HTTPS meanwhile is not moved there."""
    typed(recipe("HTTP and HTTPS on the same server")[which].replace("pen -l", "pen -b 1 -l"))
    mover, first = EVEN[0], meeting[0]
    others = (f"10.0.8.{number}" for number in range(1, 255))  # new ones, so that none is remembered
    die(first)
    assert curl("http://lbhost/page", mover) == ["nginx"]
    again = lab.spawn(first.process.argv, "again")
    wait_until(lambda: again.alive and curl("http://lbhost/page", next(others)) == ["apache"], "it is back")
    assert curl("https://lbhost/page", mover) == ["apache"]
    assert curl("http://lbhost/page", mover) == ["nginx" if which == 0 else "apache"]

"""Where pen listens and whom it reaches: every form of address, and what is said about a bad one."""

import socket
import stat

import pytest
from support.network import mounted, names, sysctl
from support.pen import control_options
from support.ports import free_port, listening_hosts, listens
from support.programs import needs
from support.waiting import wait_until

ANY4, ANY6 = "0.0.0.0", "::"


def refused(lab, code, *words):
    """The complaint of a pen that must not start; nothing may have been opened."""
    done = lab.run("pen", "-f", "-l", "pen.log", *words)
    assert (done.code, done.out) == (code, "")
    assert "Traceback" not in done.err
    assert not (lab.directory / "pen.log").exists()
    return done.err.splitlines()[0]


class TestListener:
    @needs("ipv6")
    def test_a_port_alone_is_all_addresses_of_both_families(self, lab):
        pen = lab.pen(listen=str(free_port()), servers=lab.backends(1))
        port = pen.address[1]
        assert listening_hosts(pen.pid, port) == {ANY4, ANY6}
        for host in ("127.0.0.1", "127.9.8.7", "::1"):
            assert lab.client((host, port)).line() == "s0"

    def test_an_ipv4_client_is_written_as_ipv4(self, lab):
        pen = lab.pen("-l", "pen.log", listen=str(free_port()), servers=[lab.backend(host="127.0.1.1")])
        pen.client(source="127.0.0.9").send(b"hello\n").close()
        pen.log_contains(r"^127\.0\.0\.9 \d+ 127\.0\.1\.1 hello$")

    def test_without_ipv6_there_is_ipv4(self, lab, network):
        """In a network whose IPv6 is off."""
        sysctl("ipv6/conf/all/disable_ipv6", "1")
        pen = lab.pen(listen="8000", servers=lab.backends(1))
        assert pen.ask() == "s0"

    def test_an_ipv4_address(self, lab):
        pen = lab.pen(listen=f"127.0.0.77:{free_port()}", servers=lab.backends(1))
        assert listening_hosts(pen.pid, pen.address[1]) == {"127.0.0.77"}
        assert pen.ask() == "s0"

    @needs("ipv6")
    @pytest.mark.parametrize("form", ["[::1]:{}", "::1:{}"])
    def test_an_ipv6_address(self, lab, form):
        pen = lab.pen("-l", "pen.log", listen=form.format(free_port()), servers=[lab.backend(host="::1")])
        port = pen.address[1]
        assert listening_hosts(pen.pid, port) == {"::1"}
        with lab.client(("::1", port)) as client:
            assert client.send(b"hello\n").line() == "s0"
        pen.log_contains(r"^::1 \d+ ::1 hello$")

    @needs("ipv6")
    @pytest.mark.parametrize("form", [":::{}", "[::]:{}"])
    def test_all_ipv6_addresses(self, lab, form):
        pen = lab.pen(listen=form.format(free_port()), servers=lab.backends(1))
        port = pen.address[1]
        assert listening_hosts(pen.pid, port) == {ANY6}
        assert lab.client(("::1", port)).line() == "s0"

    def test_an_empty_host_is_all_addresses(self, lab):
        pen = lab.pen(listen=f":{free_port()}", servers=lab.backends(1))
        assert ANY4 in listening_hosts(pen.pid, pen.address[1])
        assert pen.ask() == "s0"

    def test_a_unix_socket(self, lab):
        pen = lab.pen(
            "-l", "pen.log", listen=f"{lab.directory}/in.sock", servers=[lab.backend(host="127.0.1.1")]
        )
        with pen.client() as client:
            assert client.send(b"hello\n").line() == "s0"
        pen.log_contains(r"^unix \d+ 127\.0\.1\.1 hello$")
        assert stat.S_IMODE((lab.directory / "in.sock").stat().st_mode) == 0o666
        assert pen.stop() == 0
        assert not (lab.directory / "in.sock").exists()

    def test_a_unix_socket_by_relative_name(self, lab):
        lab.pen(listen="./in.sock", address="./in.sock", servers=lab.backends(1))
        assert lab.client(f"{lab.directory}/in.sock").line() == "s0"

    def test_a_unix_socket_left_behind_is_replaced(self, lab):
        path = f"{lab.directory}/in.sock"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
        pen = lab.pen(listen=path, servers=lab.backends(1))
        assert pen.ask() == "s0"

    def test_a_unix_socket_that_is_no_longer_ours_is_left(self, lab):
        """Somebody removed it, and started another pen."""
        listen, control = lab.directory / "listen.sock", lab.directory / "control.sock"
        old = lab.pen(listen=str(listen), control=str(control), servers=lab.backends(1))
        listen.unlink()
        control.unlink()
        new = lab.pen(listen=str(listen), control=str(control), servers=lab.backends(1))
        wait_until(lambda: listen.exists() and control.exists())
        assert old.stop() == 0
        new.wait_listening()
        assert new.ask()
        assert new.command("timeout") == "3\n"

    def test_a_unix_socket_that_answers_is_not_replaced(self, lab):
        server = lab.backend(path=f"{lab.directory}/in.sock")
        complaint = refused(lab, 1, server.path, lab.backend())
        assert server.path in complaint
        assert lab.client(server.path).line() == "s0"

    def test_a_file_that_is_no_socket_is_not_replaced(self, lab):
        path = lab.write("in.sock", "precious")
        assert str(path) in refused(lab, 1, path, lab.backend())
        assert path.read_text() == "precious"

    def test_a_port_in_use_is_an_error(self, lab):
        server = lab.backend()
        complaint = refused(lab, 1, server, "127.0.0.1:1")
        assert str(server) in complaint
        assert complaint.endswith("Address already in use")

    def test_a_port_that_another_pen_has_is_in_use(self, lab):
        """The original shared it silently."""
        pen = lab.pen(servers=lab.backends(1))
        assert refused(lab, 1, pen.listen, "127.0.0.1:1").endswith("Address already in use")

    @needs("ipv6")
    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    def test_a_control_port_in_use_is_an_error(self, lab, host):
        """It is on both loopback addresses, so both must be free."""
        server = lab.backend(host=host)
        complaint = refused(
            lab, 1, *control_options(str(server.port)), f"127.0.0.1:{free_port()}", "127.0.0.1:1"
        )
        assert str(server.port) in complaint
        assert complaint.endswith("Address already in use")

    @needs("ipv6")
    def test_a_control_address_is_that_one_alone(self, lab):
        port = free_port()
        options = control_options(f"127.0.0.1:{port}")
        lab.pen(*options, servers=lab.backends(1), control="")
        assert lab.penctl(options[1], "control").out == f"127.0.0.1:{port}\n"
        lab.closing(socket.socket(socket.AF_INET6)).bind(("::1", port))

    def test_a_port_just_left_is_free(self, lab):
        pen = lab.pen(servers=lab.backends(1))
        client = pen.client()
        assert client.line() == "s0"
        assert pen.stop() == 0  # pen closes first, so the port has a connection in TIME_WAIT
        again = lab.pen(listen=pen.listen, servers=lab.backends(1))
        assert again.ask() == "s1"

    def test_an_address_that_is_not_ours(self, lab):
        assert refused(lab, 1, "192.0.2.1:8000", "127.0.0.1:1").endswith("Cannot assign requested address")

    @needs("root", "setpriv")
    def test_a_privileged_port_without_the_right(self, lab, network):
        sysctl("ipv4/ip_unprivileged_port_start", "1024")
        ordinary = ["setpriv", "--bounding-set=-net_bind_service"]
        pen = lab.pen(listen="127.0.0.1:80", servers=["127.0.0.1:1"], control="", wrap=ordinary, wait=False)
        assert pen.wait() == 1
        assert "127.0.0.1:80" in pen.err
        assert pen.err.endswith("Permission denied\n")

    def test_a_service_name_and_a_host_name(self, lab, network):
        hosts = names({"lbhost": "127.0.0.5"}, lab.directory)
        pen = lab.pen(listen="lbhost:pop3", servers=lab.backends(1), wrap=hosts, address=("127.0.0.5", 110))
        assert pen.ask() == "s0"

    def test_a_service_name_alone(self, lab, network):
        server = lab.backend(port=1110)
        pen = lab.pen(listen="pop3", servers=[server])
        assert pen.ask() == "s0"


class TestServer:
    @needs("ipv6")
    def test_an_ipv6_server(self, lab):
        pen = lab.pen("-l", "pen.log", servers=[lab.backend(host="::1")])
        with pen.client() as client:
            assert client.send(b"hello\n").line() == "s0"
        pen.log_contains(r"^127\.0\.0\.1 \d+ ::1 hello$")
        assert pen.servers()[0]["addr"] == "::1"

    def test_a_unix_server(self, lab):
        server = lab.backend(path=f"{lab.directory}/out.sock")
        pen = lab.pen("-l", "pen.log", servers=[server])
        with pen.client() as client:
            assert client.send(b"hello\n").line() == "s0"
        pen.log_contains(rf"^127\.0\.0\.1 \d+ {server.path} hello$")

    def test_a_unix_server_with_limits(self, lab):
        pen = lab.pen("-r", servers=[f"{lab.backend(path=f'{lab.directory}/out.sock')}:0:1", lab.backend()])
        first = pen.client()
        assert first.line() == "s0"
        assert pen.asks(2) == ["s1", "s1"]

    def test_a_unix_server_by_relative_name(self, lab):
        lab.backend(path=f"{lab.directory}/out.sock")
        assert lab.pen(servers=["./out.sock"]).ask() == "s0"

    def test_unix_sockets_on_both_sides(self, lab):
        server = lab.backend(path=f"{lab.directory}/out.sock")
        pen = lab.pen("-l", "pen.log", listen=f"{lab.directory}/in.sock", servers=[server])
        with pen.client() as client:
            assert client.send(b"hello\n").line() == "s0"
        pen.log_contains(rf"^unix \d+ {server.path} hello$")

    def test_the_port_defaults_to_the_listening_one(self, lab):
        server = lab.backend(host="127.0.1.1")
        pen = lab.pen(listen=f"127.0.0.1:{server.port}", servers=["127.0.1.1"])
        assert pen.ask() == "s0"

    def test_an_empty_port_is_no_port(self, lab):
        server = lab.backend(host="127.0.1.1")
        pen = lab.pen(listen=f"127.0.0.1:{server.port}", servers=["127.0.1.1::3:4:5:6"])
        assert pen.ask() == "s0"
        shown = pen.servers()[0]
        assert [shown[name] for name in ("port", "max", "hard", "weight", "prio")] == [
            str(server.port), "3", "4", "5", "6",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("limits", "shown"),
        [
            ("", "max 0 hard 0 weight 0 prio 0"),
            (":10", "max 10 hard 0 weight 0 prio 0"),
            (":10:20", "max 10 hard 20 weight 0 prio 0"),
            (":10:20:30", "max 10 hard 20 weight 30 prio 0"),
            (":10:20:30:40", "max 10 hard 20 weight 30 prio 40"),
        ],
    )
    @pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=needs("ipv6"))])
    def test_limits(self, lab, host, limits, shown):
        server = lab.backend(host=host)
        pen = lab.pen(servers=[f"{server}{limits}"])
        assert pen.command("servers") == f"0 addr {host} port {server.port} conn 0 {shown} sx 0 rx 0\n"
        assert pen.ask() == "s0"

    def test_a_service_name_and_a_host_name(self, lab, network):
        hosts = names({"host1": "127.0.1.1"}, lab.directory)
        lab.backend(host="127.0.1.1", port=25)
        pen = lab.pen(servers=["host1:smtp"], wrap=hosts)
        assert pen.ask() == "s0"
        assert "addr 127.0.1.1 port 25" in pen.command("servers")

    @needs("ipv6")
    def test_all_addresses_of_a_name_are_tried_ipv4_first(self, lab, network):
        """A server `localhost` whose ::1 refuses is not down, nor one whose 127.0.0.1 does."""
        hosts = lab.write("hosts", "::1 both\n127.0.1.1 both\n")
        wrap = mounted(hosts, "/etc/hosts")
        four, six = lab.backend(host="127.0.1.1", port=8001), lab.backend(host="::1", port=8001)
        pen = lab.pen(servers=["both:8001", lab.backend()], wrap=wrap)
        assert pen.asks(2) == ["s0", "s0"]
        four.stop()
        assert pen.asks(2) == ["s1", "s1"], "its other address is not out because the first is"
        four.start()
        six.stop()
        assert pen.asks(2) == ["s0", "s0"]
        four.stop()
        assert pen.asks(2) == ["s2", "s2"], "out only when every address failed"

    def test_a_name_that_does_not_resolve(self, lab, network):
        hosts = names({}, lab.directory)
        pen = lab.pen(servers=["nosuchhost:80"], wrap=hosts, wait=False)
        assert pen.wait() == 1
        assert "nosuchhost" in pen.err
        assert len(pen.err.splitlines()) == 1

    def test_names_are_resolved_again_on_hup(self, lab, network):
        hosts = names({"host1": "127.0.1.1"}, lab.directory)
        lab.backend(host="127.0.1.1", port=8001)
        lab.backend(host="127.0.1.2", port=8001)
        pen = lab.pen("-r", servers=["host1:8001"], wrap=hosts)
        assert pen.ask() == "s0"
        lab.directory.joinpath("hosts").write_text("127.0.1.2 host1\n")
        assert pen.ask() == "s0"
        pen.hup()
        pen.wait_for(lambda: pen.servers()[0]["addr"] == "127.0.1.2")
        assert pen.ask() == "s1"

    def test_at_hup_a_name_that_is_gone_keeps_its_addresses(self, lab, network):
        hosts = names({"host1": "127.0.1.1"}, lab.directory)
        lab.backend(host="127.0.1.1", port=8001)
        pen = lab.pen("-r", servers=["host1:8001"], wrap=hosts)
        lab.directory.joinpath("hosts").write_text("127.0.0.1 localhost\n")
        pen.hup()
        pen.says("host1")
        assert pen.ask() == "s0"


class TestBadAddress:
    """Exit 2, with the address and what is wrong with it, before anything is opened."""

    @pytest.mark.parametrize(
        "listen",
        ["0", "65536", "99999999999", "nosuchservice", "127.0.0.1:", "300.1.1.1:80", "1.2.3:80", "[::1:80",
         "::1]:80", "[::x]:80", "a b:80", "1:2:3:80", "host!:80", "-1", "127.0.0.1:-1", "127.0.0.1:٣"],
    )  # fmt: skip
    def test_listener(self, lab, listen):
        if listen.startswith("-"):
            assert "-1" in refused(lab, 2, "--", listen, "127.0.0.1:1")
        else:
            assert listen in refused(lab, 2, listen, "127.0.0.1:1")

    @pytest.mark.parametrize(
        "server",
        ["", ":80", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:nosuchservice", "300.1.1.1:80", "::1:80",
         "[::1", "[::1]80", "[:x:]:80", "127.0.0.1:80:x", "127.0.0.1:80:-1", "127.0.0.1:80:1:x",
         "127.0.0.1:80:1:2:x", "127.0.0.1:80:1:2:3:x", "127.0.0.1:80:1:2:3:4:5", "a b:80", "x" * 300],
    )  # fmt: skip
    def test_server(self, lab, server):
        assert server in refused(lab, 2, f"127.0.0.1:{free_port()}", server)

    @pytest.mark.parametrize("option", ["-e", "-B", "-C"])
    def test_options(self, lab, option):
        assert "127.0.0.1:99999" in refused(lab, 2, option, "127.0.0.1:99999", "10000", "127.0.0.1:1")

    def test_log_target(self, lab):
        assert "127.0.0.1:99999" in refused(lab, 2, "-l", "127.0.0.1:99999", "10000", "127.0.0.1:1")

    def test_a_unix_socket_with_too_long_a_name(self, lab):
        assert "/x" * 60 in refused(lab, 2, "/x" * 60, "127.0.0.1:1")

    def test_in_the_background_the_complaint_is_the_same(self, lab):
        done = lab.run("pen", "-p", "pen.pid", "10000", "127.0.0.1:99999")
        assert done.code == 2
        assert "127.0.0.1:99999" in done.err.splitlines()[0]

    def test_the_listener_is_free_afterwards(self, lab):
        port = free_port()
        refused(lab, 2, f"127.0.0.1:{port}", "127.0.0.1:99999")
        with pytest.raises(ConnectionRefusedError):
            lab.client(("127.0.0.1", port))
        assert not listens(1, port)

"""More than pen can take: connections, descriptors, connects under way.  Nobody is lost, nothing spins."""

import resource
import signal
import threading

import pytest
from support.backend import silent
from support.process import cpu_seconds, open_files
from support.programs import needs
from support.strace import Trace
from support.waiting import let_pass, stays, wait_until

MECHANISMS = pytest.mark.parametrize(
    "options", [[], ["-P"], ["-O", "select"]], ids=["epoll", "poll", "select"]
)


def idle_cpu(pen, seconds=1.0):
    """The share of a processor that pen uses when nothing is to do."""
    before = cpu_seconds(pen.pid)
    let_pass(seconds)
    return (cpu_seconds(pen.pid) - before) / seconds


def limit_descriptors(pen, count):
    """From now on pen gets no descriptor numbered `count` or higher."""
    resource.prlimit(pen.pid, resource.RLIMIT_NOFILE, (count, count))


class TestConnections:
    @MECHANISMS
    def test_further_ones_wait_in_the_backlog(self, lab, options):
        pen = lab.pen("-r", "-x", "5", *options, servers=lab.backends(1))
        inside = [pen.client() for _ in range(5)]
        assert [client.line() for client in inside] == ["s0"] * 5
        waiting = [pen.client() for _ in range(3)]
        stays(lambda: pen.connections() == 5, 0.3)
        assert idle_cpu(pen) < 0.2
        for client in inside[:3]:
            client.close()
        assert [client.line() for client in waiting] == ["s0"] * 3

    def test_600_against_500(self, lab):
        """All are served, none refused or reset; the backlog holds those that wait."""
        server = lab.backend()
        pen = lab.pen("-r", "-x", "500", servers=[server])
        clients = [lab.client(pen.address) for _ in range(600)]
        served = 0
        for client in clients:
            assert client.line() == "s0"
            served += 1
            assert client.talk(b"hello") == b"hello"
            client.close()
        assert served == server.accepted == 600

    def test_at_most_x_at_a_time(self, lab):
        server = lab.backend()
        most = []
        pen = lab.pen("-r", "-x", "20", servers=[server])

        def visit():
            with pen.client() as client:
                assert client.line() == "s0"
                most.append(len(server.open))

        visitors = [threading.Thread(target=visit) for _ in range(100)]
        for visitor in visitors:
            visitor.start()
        for visitor in visitors:
            visitor.join()
        assert len(most) == 100
        assert max(most) <= 21, "one may be closing while the next is there"

    def test_grows_by_command_never_shrinks(self, lab):
        pen = lab.pen("-r", "-x", "1", servers=lab.backends(1))
        first, second = pen.client(), pen.client()
        assert first.line() == "s0"
        stays(lambda: pen.connections() == 1, 0.2)
        assert pen.command("conn_max 2") == "2\n"
        assert second.line() == "s0"
        assert pen.command("conn_max 1") == "2\n"

    def test_select_caps_them_by_itself(self, lab):
        """select() knows descriptors below 1024 only."""
        pen = lab.pen("-r", "-x", "5000", "-O", "select", servers=lab.backends(1))
        assert int(pen.command("conn_max")) < 512
        assert len([line for line in pen.err.splitlines() if "select" in line]) == 1
        assert pen.ask() == "s0"

    @needs("prlimit")
    def test_the_soft_limit_of_descriptors_is_raised(self, lab):
        pen = lab.pen("-x", "1500", servers=lab.backends(1), wrap=["prlimit", "--nofile=256:4000"])
        soft, _ = resource.prlimit(pen.pid, resource.RLIMIT_NOFILE)
        assert soft > 3000
        assert pen.command("conn_max") == "1500\n"
        assert pen.err == ""

    @needs("prlimit")
    def test_the_hard_limit_reduces_x_with_a_line(self, lab):
        pen = lab.pen("-r", "-x", "500", servers=lab.backends(1), wrap=["prlimit", "--nofile=128:128"])
        assert len(pen.err.splitlines()) == 1
        granted = int(pen.command("conn_max"))
        assert 5 < granted < 64
        assert str(granted) in pen.err
        clients = [pen.client() for _ in range(100)]
        for client in clients:
            assert client.line() == "s0"
            client.close()


class TestDescriptors:
    """Taken away while pen runs: it lets the listener alone until a connection closes."""

    @MECHANISMS
    def test_accepting_pauses_and_resumes(self, lab, options):
        pen = lab.pen("-r", *options, servers=lab.backends(1))
        with pen.client() as client:
            assert client.line() == "s0"
        pen.wait_connections(0)
        limit_descriptors(pen, len(open_files(pen.pid)) + 7)
        clients = [lab.client(pen.address) for _ in range(20)]
        assert idle_cpu(pen) < 0.2
        for client in clients:
            assert client.line() == "s0"
            client.close()
        assert pen.alive

    def test_no_server_is_blamed(self, lab):
        pen = lab.pen("-r", servers=lab.backends(2))
        limit_descriptors(pen, len(open_files(pen.pid)) + 5)
        clients = [lab.client(pen.address) for _ in range(10)]
        for client in clients:
            assert client.line_or_end() in ("s0", "s1")
            client.close()
        assert sorted(pen.asks(4)) == ["s0", "s0", "s1", "s1"]

    def test_it_is_said_once(self, lab):
        pen = lab.pen("-r", servers=lab.backends(1))
        limit_descriptors(pen, len(open_files(pen.pid)) + 4)
        clients = [lab.client(pen.address) for _ in range(10)]
        let_pass(0.5)
        for client in clients:
            client.line_or_end()
            client.close()
        assert pen.err.count("Too many open files") <= 2


class TestConnectsUnderWay:
    def test_130_clients_of_a_server_that_never_answers_cost_no_cpu(self, lab):
        pen = lab.pen("-r", "-t", "60", servers=[lab.hole()])
        clients = [pen.client() for _ in range(130)]
        wait_until(lambda: pen.connections() >= 100)
        assert idle_cpu(pen, 2.0) < 0.05
        assert all(client.socket.fileno() >= 0 for client in clients)

    def test_no_more_than_pending_max(self, lab):
        """With one allowed, the second client waits for the end of the first one's vain attempt."""
        pen = lab.pen("-r", "-t", "1", "-O", "pending_max 1", servers=[lab.hole(), *lab.backends(1)])
        first, second = pen.client(), pen.client()
        second.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            second.line()
        second.socket.settimeout(15)
        assert first.line() == second.line() == "s0"

    def test_more_than_pending_max_all_get_their_turn(self, lab):
        pen = lab.pen(
            "-r", "-t", "1", "-b", "60", "-O", "pending_max 2", servers=[lab.hole(), *lab.backends(1)]
        )
        clients = [pen.client() for _ in range(12)]
        assert [client.line() for client in clients] == ["s0"] * 12


@needs("strace")
class TestSystemCalls:
    def test_backlog(self, lab):
        trace = Trace(lab.directory, calls="listen")
        lab.pen("-q", "77", servers=lab.backends(1), wrap=trace.wrap)
        assert any(args.split(",")[1].strip().startswith("77") for args in trace.with_name("listen"))

    @pytest.mark.parametrize(("option", "backlog"), [([], 500), (["-q", "10"], 50)])
    def test_backlog_default_and_least(self, lab, option, backlog):
        trace = Trace(lab.directory, calls="listen")
        lab.pen(*option, servers=lab.backends(1), wrap=trace.wrap, control="")
        assert [args.split(",")[1].strip().split(")")[0] for args in trace.with_name("listen")] == [
            str(backlog)
        ]

    @pytest.mark.parametrize("most", [1, 3])
    def test_accepts_per_round(self, lab, most):
        trace = Trace(lab.directory, calls="accept,accept4,epoll_wait,epoll_pwait")
        pen = lab.pen("-r", "-m", str(most), servers=lab.backends(1), wrap=trace.wrap)
        pen.send_signal(signal.SIGSTOP)
        clients = [pen.client() for _ in range(12)]
        pen.send_signal(signal.SIGCONT)
        assert [client.line() for client in clients] == ["s0"] * 12
        rounds = "".join("a" if name.startswith("accept") else " " for name in trace.names()).split()
        assert max(map(len, rounds)) == most

    @pytest.mark.parametrize("name", ["tcp_nodelay", "keepalive"])
    def test_socket_options_on_both_sides(self, lab, name):
        option = {"tcp_nodelay": "TCP_NODELAY", "keepalive": "SO_KEEPALIVE"}[name]
        trace = Trace(lab.directory, calls="setsockopt")
        pen = lab.pen("-r", servers=lab.backends(1), wrap=trace.wrap)
        assert pen.ask() == "s0"
        assert not [args for args in trace.with_name("setsockopt") if option in args]
        pen.command(name)
        assert pen.ask() == "s0"
        wait_until(lambda: len([args for args in trace.with_name("setsockopt") if option in args]) == 2)
        pen.command(f"no {name}")
        assert pen.ask() == "s0"
        assert len([args for args in trace.with_name("setsockopt") if option in args]) == 2

    @pytest.mark.parametrize(
        ("options", "call"),
        [([], "epoll_wait"), (["-P"], "poll"), (["-O", "poll"], "poll"), (["-O", "select"], "select"),
         (["-O", "epoll"], "epoll_wait")],
    )  # fmt: skip
    def test_the_event_mechanism(self, lab, options, call):
        trace = Trace(lab.directory)
        pen = lab.pen(*options, servers=lab.backends(1, silent), wrap=trace.wrap)
        pen.client()
        pen.wait_connections(1)
        kinds = {"epoll_wait": "epoll_wait", "epoll_pwait": "epoll_wait", "poll": "poll", "ppoll": "poll"}
        kinds |= {"select": "select", "pselect6": "select"}
        waited = [kinds[name] for name in trace.names() if name in kinds]
        assert waited[-1] == call


@pytest.mark.parametrize("seconds", [0, 3, 86400, 999_999_999])
def test_an_idle_timeout_of_any_length(lab, seconds):
    """A longer one closes nobody who has been silent for a second or two, and gives way to a shorter one."""
    pen = lab.pen("-O", f"idle_timeout {seconds}", servers=[lab.backend()])
    client = pen.client()
    assert client.line() == "s0"
    stays(lambda: pen.connections() == 1, 1.5)
    pen.command("idle_timeout 1")
    assert client.ended()

"""-H: every HTTP request that passes says whose it is (X-Forwarded-For) and how it came (X-Forwarded-Proto).

Two taps stand on a connection.  `Requests` changes what the client sends, head by head, and refuses what can
be understood in two ways.  `Replies` looks at what the server says, for two reasons only: a refusal may be
answered with 400 only when no answer is due (the client would take it for that), and an Upgrade or CONNECT
makes the connection opaque only when the server has agreed to it.

The first line decides whether this is HTTP, and passes as it comes: another protocol must not wait for the
end of a line that it may not even have.  The rest of a head is held until it is complete.  Once the
connection is opaque both taps go, and those take over that would be there without -H.

Not here: framing (http, httpanswers), what is added (forwarded), the connection's end (tcp).
"""

from collections.abc import Callable

from penlib import http, httpanswers, httphead
from penlib.balancer.connection import Connection
from penlib.balancer.dump import Taps
from penlib.balancer.pairs import ALL, Tap
from penlib.balancer.relay import Relay
from penlib.forwarded import LONGEST, Forwarded, begins_forwarded_field
from penlib.http import Invalid, Opaque, RequestParser
from penlib.httpanswers import Answers
from penlib.httphead import Head

OUTSTANDING = 1000
"""Unanswered requests of one client; one who sends more waits until half of them are answered."""

_BETWEEN = (http.UNDECIDED, http.REQUEST_LINE, http.FIELDS)
"""Where the framing is lost before anything of a request, but for the first line, has been passed on."""

FOLLOWED = ALL - 1
"""`unseen` of a tap that need see nothing more, but be told of the end."""


class Rewriter:
    """The two taps of one connection, with which it is joined, and what they share.

    `lookers` are the taps that would look at client and server without -H.  `refuse` is called, with the
    reason, when a connection is not to go on; its last argument is what the client is told, perhaps nothing.
    """

    def __init__(
        self,
        relay: Relay,
        connection: Connection,
        forwarded: Forwarded,
        lookers: tuple[Tap | None, Tap | None],
        refuse: Callable[[Connection, str, bytes], None],
        later: Callable[[Callable[[], None]], None],
    ) -> None:
        self.answers = Answers()
        self.requests = Requests(self, forwarded, lookers[0])
        self.replies = Replies(self, lookers[1])
        self._relay = relay
        self._connection = connection
        self._lookers = lookers
        self._refuse = refuse
        self._later = later
        self._invalid: Invalid | None = None
        """What was no request, while that waits for something."""
        self._spoilt = False
        """It was in the body of the last request, which will have no answer then."""
        self._paused = False
        self.waits = False
        """Something waits for the server: answers are to be reported to `progress`."""

    def look(self, looker: Tap) -> None:
        """This one looks at the client from now on."""
        self._lookers = (looker, self._lookers[1])

    def step_back(self, doubtful: "Doubtful | None" = None) -> None:
        """Nothing is left to do: this is not HTTP, or no longer; perhaps but for a `doubtful` client."""
        self._relay.tap(self._connection.down, doubtful or self._lookers[0])
        self._relay.tap(self._connection.up, self._lookers[1])
        self._resume()

    def forged(self) -> None:
        """A doubtful client says itself where it comes from."""
        self._invalid = Invalid(b"", httphead.BAD_REQUEST, "X-Forwarded field after a sloppy request line")
        self._later(self._close)

    def lost(self, invalid: Invalid, spoilt: bool) -> None:
        """The client has sent what is no request."""
        self._invalid, self._spoilt = invalid, spoilt
        self.waits = True
        if not spoilt and self.answers.may_switch:  # perhaps it spoke the other protocol a little early
            self.pause()
        else:
            self._later(self._refuse_now)

    def progress(self) -> None:
        """The server has said something."""
        if self._invalid:
            if self._spoilt or not self.answers.may_switch:
                self._later(self._refuse_when_answered)
        elif self._paused and (self.answers.outstanding <= OUTSTANDING // 2 or self.answers.final):
            self._resume()

    def switched(self) -> None:
        """The server has agreed to another protocol."""
        if self._spoilt:  # there is nobody who could speak it
            self._later(self._close)
            return
        held = self._invalid.raw if self._invalid else self.requests.opaque()
        self._invalid = None
        self.step_back()
        if held:
            self._relay.give(self._connection.up, held)

    def server_ended(self) -> None:
        """No more answers will come."""
        if self._invalid:
            self._later(self._close)

    def pause(self) -> None:
        """Let the client wait for the server."""
        self._paused = self.waits = True
        self._relay.pause(self._connection.down)

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self.waits = self._invalid is not None
            self._relay.resume(self._connection.down)

    @property
    def _due(self) -> int:
        """Answers that the client may still expect."""
        return self.answers.outstanding - (self._spoilt and self.answers.outstanding > 0)

    def _refuse_now(self) -> None:
        """Nothing of what was no request has gone to the server: say so, if the client can understand it."""
        answers, invalid = self.answers, self._invalid
        if not invalid:
            return
        if self._due or not answers.at_rest or (self._spoilt and not answers.outstanding):
            self._refuse_when_answered()
        else:
            self._close(httpanswers.refusal(invalid.status, invalid.why))

    def _refuse_when_answered(self) -> None:
        """Close when all is delivered; where that can't be known, or an answer to half a request has begun,
        the server is told that the client has ended, and ends it."""
        answers = self.answers
        if self._due and answers.state is not httpanswers.LOST:
            return
        if answers.at_rest or (self._spoilt and not answers.outstanding):
            self._close()
        elif answers.state is not httpanswers.ENDLESS and self._is_alive:
            self._relay.end(self._connection.down)

    @property
    def _is_alive(self) -> bool:
        return self._relay.is_joined(self._connection.down, self._connection)

    def _close(self, last: bytes = b"") -> None:
        if self._is_alive and self._invalid:
            self._refuse(self._connection, self._invalid.why, last)


class _Before:
    """A tap in front of the one that would look without -H."""

    __slots__ = ("_looker", "_rewriter")

    def __init__(self, rewriter: Rewriter, looker: Tap | None) -> None:
        self._rewriter = rewriter
        self._looker = looker

    def look(self, looker: Tap) -> None:
        """Stand before `looker` from now on, too."""
        self._looker = self._too(looker)

    def _too(self, looker: Tap) -> Tap:
        both = Taps(looker, self._looker) if self._looker else looker
        self._rewriter.look(both)
        return both

    def answered(self) -> None:
        if self._looker:
            self._looker.answered()

    def finish(self) -> None:
        if self._looker:
            self._looker.finish()


class Requests(_Before):
    """The tap of the client's side."""

    __slots__ = ("_ahead", "_answers", "_forwarded", "_late", "_parser")

    def __init__(self, rewriter: Rewriter, forwarded: Forwarded, looker: Tap | None) -> None:
        super().__init__(rewriter, looker)
        self._answers = rewriter.answers
        self._forwarded = forwarded
        self._parser = RequestParser()
        self._ahead = 0
        """Bytes of the first line, or of what may become it, that have passed and the parser still holds."""
        self._late: Tap | None = None
        """Looks instead of the looker from the next request on, of which it gets all."""

    def look(self, looker: Tap) -> None:
        self._late = self._too(looker)

    def feed(self, data: bytes) -> bytes:
        parser = self._parser
        if parser.state is http.LOST:
            return b""
        if self._late and parser.is_between:
            self._looker, self._late = self._late, None
        if self._looker:
            self._looker.feed(data)
        line = parser.plain(data)
        if line is not None:
            if self._answers.asked(httpanswers.BODILESS if line.startswith(b"HEAD ") else 0) >= OUTSTANDING:
                self._rewriter.pause()
            return self._forwarded.added_to(data)
        return self._treat(data)

    def _treat(self, data: bytes) -> bytes:
        parser = self._parser
        parts: list[bytes] = []
        unanswered = 0
        begun = -1
        """Where in `parts` the last request begins."""
        for event in parser.feed(data):
            if isinstance(event, Head):
                begun = len(parts)
                unanswered = self._answers.asked(httpanswers.kind(event))
                parts.append(self._rest_of(self._forwarded.added_to(event.raw)))
            elif isinstance(event, Invalid):
                spoilt = parser.lost_in not in _BETWEEN
                if spoilt and begun >= 0:  # nobody has seen anything of it yet
                    del parts[begun:]
                    self._answers.retract()
                    spoilt = False
                self._rewriter.lost(event, spoilt)
            elif isinstance(event, Opaque):
                parts.append(self._doubt(event.raw))
            else:
                parts.append(event.raw)
        if unanswered >= OUTSTANDING:
            self._rewriter.pause()
        if parser.state is http.UNDECIDED:
            parts.append(parser.held[self._ahead :])
            self._ahead = len(parser.held)
        return b"".join(parts)

    def _doubt(self, raw: bytes) -> bytes:
        """What passes of the beginning of a connection that is not HTTP."""
        doubtful = Doubtful(self._rewriter, self._late or self._looker)
        self._rewriter.step_back(doubtful)
        return self._rest_of(doubtful.passed(raw))

    def _rest_of(self, raw: bytes) -> bytes:
        rest, self._ahead = raw[self._ahead :], 0
        return rest

    def opaque(self) -> bytes:
        """The server has agreed to another protocol; answers what was held."""
        return b"".join(event.raw for event in self._parser.became_opaque())

    def unseen(self) -> int:
        unseen = self._parser.unseen
        return min(unseen, self._looker.unseen()) if self._looker and unseen else unseen

    def skip(self, size: int) -> None:
        self._parser.skip(size)
        if self._looker:
            self._looker.skip(size)


class Doubtful(_Before):
    """The tap of a client whose first line is none of HTTP/1, but perhaps near enough for a lenient server.

    What it sends passes untouched, but not with a field that servers take for pen's word: then it is closed.
    """

    __slots__ = ("_closed", "_sure", "_tail")

    def __init__(self, rewriter: Rewriter, looker: Tap | None) -> None:
        super().__init__(rewriter, looker)
        self._tail = b""
        """What has passed, as much as is needed: of the first line all."""
        self._sure = False
        """The first line is known to be near enough."""
        self._closed = False

    def feed(self, data: bytes) -> bytes:
        if self._looker and not self._closed:
            self._looker.feed(data)
        return self.passed(data)

    def passed(self, data: bytes) -> bytes:
        """What passes of `data`: all or nothing."""
        if self._closed:
            return b""
        text = self._tail + data
        if not self._sure:
            sloppy = httphead.is_sloppy(text) if len(text) < http.HEAD_LIMIT else False
            if sloppy is False:
                self._rewriter.step_back()
                return data
            self._sure = bool(sloppy)
        if self._sure and begins_forwarded_field(text):
            self._closed = True
            self._rewriter.forged()
            return b""
        self._tail = text[-LONGEST:] if self._sure else text
        return data

    def unseen(self) -> int:
        return 0

    def skip(self, size: int) -> None:
        """Nothing is: nothing passes unseen."""


class Replies(_Before):
    """The tap of the server's side."""

    __slots__ = ("_answers",)

    def __init__(self, rewriter: Rewriter, looker: Tap | None) -> None:
        super().__init__(rewriter, looker)
        self._answers = rewriter.answers

    def feed(self, data: bytes) -> bytes:
        rewriter = self._rewriter
        if self._looker:
            self._looker.feed(data)
        self._answers.feed(data)
        if self._answers.state is httpanswers.SWITCHED:
            rewriter.switched()
        elif rewriter.waits:
            rewriter.progress()
        return data

    def unseen(self) -> int:
        unseen = FOLLOWED if self._answers.final else self._answers.unseen
        return min(unseen, self._looker.unseen()) if self._looker else unseen

    def skip(self, size: int) -> None:
        self._answers.skip(size)
        if self._looker:
            self._looker.skip(size)
        if self._rewriter.waits:
            self._rewriter.progress()

    def finish(self) -> None:
        super().finish()
        self._rewriter.server_ended()

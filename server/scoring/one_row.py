"""One request of one model, from the body's bytes to the response's bytes."""

import secrets
import struct
import time
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache, partial
from heapq import heappop, heappush
from itertools import count as numbers_from
from typing import Any, NamedTuple, TypeAlias

import orjson

from server.errors import Unavailable
from server.log.instance_log import NO_LOG, InstanceLog
from server.log.ring import LoggedResponse, RowMargins, put_margins
from server.model.bundle import ANSWER_MEMBERS, Bundle
from server.model.decoder import row_decoder
from server.model.predictor import Predictor
from server.model.row_names import ROW_ID
from server.model.schema import Row
from server.scoring.row_id import MEMBER, without_ignored_id

Send = Callable[[bytes], None]
#: Counts a row's output and the index of its outcome.
Count = Callable[[Any, int], None]
#: Opens the log of a bundle's answers whose ids begin with a name: `PredictionLog.register`.
Register = Callable[[Bundle, str], InstanceLog]
_SCORE = struct.Struct("d")


class Extras(NamedTuple):
    """What a request asks to have in its response too, each of it a reason to leave the fast path.

    `row_id` is the id in the body, as JSON, "" of none. `reasons` gives the JSON list of
    the reasons for one encoded row, None where none are asked for; `always` of a favourable
    one too.
    """

    row_id: bytes = b""
    reasons: Callable[[Row], bytes] | None = None
    always: bool = False


#: `Scorer.respond`: body, how to send, when it began in `perf_counter_ns`, extras, identity.
Respond: TypeAlias = Callable[[bytes, Send, int, Extras | None, bytes], None]


class Scorer:
    """Responds to `/predict` for one model of any task; made once per process, for one thread.

    Without `register` nothing is logged.
    """

    def __init__(self, bundle: Bundle, count: Count, register: Register | None = None) -> None:
        self.bundle = bundle
        self.predictor = Predictor(bundle)
        self.decode = row_decoder(without_ignored_id(bundle.schema))
        # Unique per process: 48 random bits; the number after it is the log's seq.
        self.instance_id = secrets.token_hex(6)
        self._predict = self.predictor.predict
        self._numbers = numbers_from(1)
        self._sequence: Callable[[], int] = self._numbers.__next__
        self._given_back: list[int] = []
        output, outcome = ANSWER_MEMBERS[bundle.task]
        #: A response but for its number, its output and what ends it.
        self._form = f'{{"id":"{self.instance_id}-%d","{output}":%b%b'.encode()
        model = orjson.dumps(bundle.label)
        named = [b',"%b":%b' % (outcome.encode(), orjson.dumps(word)) for word in bundle.outcomes]
        self._tails = [b'%b,"model":%b}' % (member if outcome else b"", model) for member in named]
        self._count = count
        self._instance_log = register(bundle, self.instance_id) if register is not None else None
        log = self._instance_log or NO_LOG
        self._put: Callable[..., bool] | None = log.ring_put
        self._drop, self._write = log.drop, log.write
        self._max_input_bytes = log.max_input_bytes
        #: The JSON object of one row as the log has it.
        self.logged_input = log.input_of
        self._instance = int(self.instance_id, 16)
        self._has_one_output = bundle.task != "multiclass"
        #: Where the margin of the row that was scored last stands.
        self._margins: Sequence[float] | Sequence[RowMargins] = self.predictor.last_margin
        self.respond = self._respond_logged_first if self.is_strict else self._respond

    def score_by(self, margin: Callable[[Row], float]) -> None:
        """Have a row's margin from this function from now on: `Predictor.score_by`."""
        self.predictor.score_by(margin)
        self._predict = self.predictor.predict

    @property
    def logs(self) -> bool:
        """Whether there is a prediction log."""
        return self._instance_log is not None

    @property
    def is_strict(self) -> bool:
        """Whether the kernel must have a line before its response is sent."""
        return self._write is not None

    def take_sequence(self) -> int:
        """The number of the next response, and of its line in the log."""
        return self._sequence()

    def give_back(self, *numbers: int) -> None:
        """Number the next responses so: those that were to have them were not given, so there is no gap."""
        for number in numbers:
            heappush(self._given_back, number)  # others may have been numbered meanwhile
        self._sequence = self._next_given_back

    def _next_given_back(self) -> int:
        number = heappop(self._given_back)
        if not self._given_back:
            self._sequence = self._numbers.__next__
        return number

    def write(self, answered: Sequence[LoggedResponse]) -> None:
        """In the strict mode: have the kernel take the lines of a response, all or none; raises `OSError`."""
        assert self._write is not None
        self._write(answered)

    def log(self, answered: Sequence[LoggedResponse], rows: Sequence[bytes] = ()) -> None:
        """Hand the lines of a response, and what is counted of its rows, to the observer."""
        if self._instance_log is not None:
            self._instance_log.put(answered, rows)

    @cached_property
    def decode_with_id(self) -> Callable[[bytes], Row]:
        """`decode` for a row with an id of the client's."""
        return row_decoder(self.bundle.schema, passed_over=(MEMBER,))

    def _respond(
        self,
        body: bytes,
        send: Send,
        started_ns: int,
        extras: Extras | None = None,
        identity: bytes = b"",
    ) -> None:
        """Score one JSON object and send the response's bytes.

        `started_ns` is the `perf_counter_ns` at which the request was whole, `identity` what
        the line alone tells of the request (`RequestIdentity.members`). Raises
        the `Problem` to answer with instead: `MalformedBody`, `UnacceptableRow`,
        `ModelFailure` or, in the log's strict mode, `Unavailable`.
        """
        row = self.decode(body) if extras is None else self._decode_for(extras, body)
        probability, decision = self._predict(row)
        margin = self._margins[0]  # before reasons, which may score other rows
        # Before there is a number: it may fail, and a number without a line is one that was lost.
        more = b"" if extras is None else self._extra_members(row, decision, extras)
        sequence = self._sequence()
        content = self._content(sequence, probability, decision)
        if more:
            content = b"%b%b}" % (content[:-1], more)
        put = self._put
        if put is not None:  # ahead of the response: whoever has one has a line, if this process is killed
            score = probability if self._has_one_output else probability[decision]
            if len(body) > self._max_input_bytes:
                body = self.logged_input(body)
            line = b"%b%b}" % (content[:-1], identity) if identity else content
            ended_ns = time.perf_counter_ns()
            if not put(self._instance, started_ns, ended_ns, sequence, margin, score, row, line, body):
                self._drop()
        send(content)
        self._count(probability, decision)

    def _respond_logged_first(
        self,
        body: bytes,
        send: Send,
        started_ns: int,
        extras: Extras | None = None,
        identity: bytes = b"",
    ) -> None:
        """`respond` in the log's strict mode: no line, no response.

        It begins as `_respond` does; what both share would be one more call for each response.
        """
        assert self._instance_log is not None
        assert self._write is not None
        row = self.decode(body) if extras is None else self._decode_for(extras, body)
        probability, decision = self._predict(row)
        margin = self._margins[0]
        more = b"" if extras is None else self._extra_members(row, decision, extras)
        sequence = self._sequence()
        content = self._content(sequence, probability, decision)
        if more:
            content = b"%b%b}" % (content[:-1], more)
        line = b"%b%b}" % (content[:-1], identity) if identity else content
        logged = self._instance_log.input_of(body)
        answered = (started_ns, time.perf_counter_ns(), line, sequence, margin, logged)
        try:
            self._write([answered])
        except (OSError, MemoryError):
            self.give_back(sequence)
            raise Unavailable("the prediction log cannot be written") from None
        score = probability if self._has_one_output else probability[decision]
        self._instance_log.put([answered], [_SCORE.pack(score) + row])
        send(content)
        self._count(probability, decision)

    def _decode_for(self, extras: Extras, body: bytes) -> Row:
        return (self.decode_with_id if extras.row_id else self.decode)(body)

    def _extra_members(self, row: Row, decision: int, extras: Extras) -> bytes:
        """The members of a response that were asked for, each behind a comma."""
        members = b""
        if extras.reasons is not None and (extras.always or self.is_adverse(decision)):
            members = b',"reasons":%b' % extras.reasons(row)
        if extras.row_id:
            members += b',"%b":%b' % (ROW_ID.encode(), extras.row_id)
        return members

    def is_adverse(self, decision: int) -> bool:
        """Whether reasons are due: of a value or a class, or where the score's decision is not the first."""
        return decision > 0 or self.bundle.task != "binary"

    def _content(self, sequence: int, output: Any, outcome: int) -> bytes:
        # orjson writes the shortest digits that parse back to the same float64.
        return self._form % (sequence, orjson.dumps(output), self._tails[outcome])


class ClassScorer(Scorer):
    """Responses with a class, of which each has a margin."""

    def __init__(self, bundle: Bundle, count: Count, register: Register | None = None) -> None:
        super().__init__(bundle, count, register)
        self._predict = self._predicted
        if self._put is not None:
            self._put = partial(put_margins, self._put)

    def score_by(self, margin: Callable[[Row], float]) -> None:
        """As `Scorer.score_by`."""
        super().score_by(margin)
        self._predict = self._predicted

    def _predicted(self, row: Row) -> tuple[list[float], int]:
        answer = self.predictor.predict(row)
        self._margins = (RowMargins(self.predictor.last_margin.tobytes(), 1),)
        return answer


class PolicyScorer(Scorer):
    """Responses by the bundle's policy, with what it says of a row (`Judge.members`)."""

    def __init__(self, bundle: Bundle, count: Count, register: Register | None = None) -> None:
        super().__init__(bundle, count, register)
        self._predict = self.predictor.judged
        judge = self.predictor.judge
        assert judge is not None
        self._judge, outcome = judge, judge.outcome
        self._count = lambda probability, verdict: count(probability, outcome(verdict))
        self._tail = lru_cache(1024)(self._make_tail)

    def score_by(self, margin: Callable[[Row], float]) -> None:
        """As `Scorer.score_by`."""
        super().score_by(margin)
        self._predict = self.predictor.judged

    def _content(self, sequence: int, output: Any, outcome: int) -> bytes:
        return self._form % (sequence, orjson.dumps(output), self._tail(outcome))

    def is_adverse(self, decision: int) -> bool:
        """Whether the score alone decides another than the first decision."""
        return self._judge.by_score(decision) > 0

    def _make_tail(self, verdict: int) -> bytes:
        """The end of a response with this verdict."""
        return b",%b" % orjson.dumps(self._judge.members(verdict) | {"model": self.bundle.label})[1:]


def make_scorer(bundle: Bundle, count: Count, register: Register | None = None) -> Scorer:
    """The scorer of a bundle: of classes, with a policy, or with neither."""
    if bundle.policy is not None:
        return PolicyScorer(bundle, count, register)
    return (ClassScorer if bundle.classes else Scorer)(bundle, count, register)

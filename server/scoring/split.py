"""One path, two models: each request is answered by the champion, or by the challenger that drew it."""

from server.errors import Problem
from server.model.arms import TrafficSplit, key_of
from server.model.predictor import ONNX_ERRORS
from server.scoring.one_row import Extras, Respond, Scorer, Send

#: What a challenger may fail with, before it has answered: the champion answers then.
FAILURES: tuple[type[Exception], ...] = (Problem, *ONNX_ERRORS)


class SplitRequests:
    """Whose a request is, of a model whose `challenger` answers a share."""

    def __init__(self, rule: TrafficSplit, challenger: Scorer) -> None:
        self.share, self.by, self.challenger = rule.share, rule.by, challenger
        self._key, self._draws = key_of(rule.by), rule.draws(challenger.bundle.label)

    def is_challengers(self, body: bytes, identity: bytes) -> bool:
        """Whether the challenger answers; a request without a key is the champion's."""
        key = self._key(body, identity)
        return bool(key) and self._draws(key)

    def responder(self, champion: Respond, challenger: Respond) -> Respond:
        """What answers a row by either; one that the challenger does not take is the champion's."""
        key_of_request, draws = self._key, self._draws

        def respond(
            body: bytes, send: Send, started_ns: int, extras: Extras | None = None, identity: bytes = b""
        ) -> None:
            # `is_challengers`, without its frame.
            if (key := key_of_request(body, identity)) and draws(key):
                try:
                    challenger(body, send, started_ns, extras, identity)
                    return
                except FAILURES:
                    pass
            champion(body, send, started_ns, extras, identity)

        return respond

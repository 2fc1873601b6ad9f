"""Memory that is used no more goes back to the kernel, in time and not at each look."""

import gc

from server.process.memory import QUIET_LOOKS, UnusedMemory


def test_what_large_bodies_left_is_given_back_when_they_are_over_and_again_later() -> None:
    """A response that is read slowly, and a body that was rejected, are let go of after the last turn."""
    given_back: list[int] = []
    look_number = 0

    def see(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"] == 2:
            given_back.append(look_number)

    bodies = 0
    memory = UnusedMemory(lambda: bodies)
    gc.collect()
    gc.disable()
    gc.callbacks.append(see)
    try:
        for look_number in range(1, 700):  # read by `see`
            bodies += look_number in (30, 40)
            memory.look(0)
    finally:
        gc.callbacks.remove(see)
        gc.enable()
    assert given_back == [40 + looks for looks in QUIET_LOOKS]

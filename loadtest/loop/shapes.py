"""How the number of users moves over a run; the last part, which is recorded, is always steady."""

SHAPES = ("steady", "ramp", "spike", "soak")
#: A soak is about hours, not about the peak: each user waits for its next turn.
SOAK_REQUESTS_PER_USER_SECOND = 10.0
RAMP_STEPS = 8
SPIKE_FROM, SPIKE_TO = 0.4, 0.6
CALM_SHARE = 0.25


def users_at(shape: str, users: int, seconds: float, elapsed: float) -> int:
    """The users of a shape that lasts `seconds` and reaches `users`, `elapsed` seconds into it.

    `ramp` climbs in eight steps; `spike` is calm but for its middle fifth;
    `steady` and `soak` are flat. Afterwards every shape holds `users`.
    """
    part = elapsed / seconds if seconds else 1.0
    wanted = users
    if part < 1.0 and shape == "ramp":
        wanted = users * (int(part * RAMP_STEPS) + 1) // RAMP_STEPS
    elif part < 1.0 and shape == "spike" and not SPIKE_FROM <= part < SPIKE_TO:
        wanted = int(users * CALM_SHARE)
    return max(1, wanted)

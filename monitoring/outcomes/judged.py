"""When outcomes are worse than promised: with rows enough, and beyond what chance gives."""

from scipy.stats import norm  # type: ignore[import-untyped]  # SciPy ships no types

#: Fewer outcomes are shown, and not judged.
MIN_OUTCOMES = 200
#: How often chance alone may call a model worse, over all that is judged at once.
FALSE_ALARM_RATE = 0.001


def limit_of(tests: int) -> float:
    """The standard deviations that chance alone stays within, of so many tests at once, either way."""
    return float(norm.isf(FALSE_ALARM_RATE / tests / 2))

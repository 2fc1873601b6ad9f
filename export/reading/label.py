"""A model's name or version, as the commands take it."""

import argparse
import re

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def label(text: str) -> str:
    """The text, which stands in paths, answers and metrics; raises `ArgumentTypeError` if it cannot."""
    if not LABEL.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected letters, digits, '.', '_' and '-', got {text!r}")
    return text

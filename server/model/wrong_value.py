"""What a value of a wrong type is called in an error, and what to send in its place.

Serialisers write some values otherwise than they were meant: R's jsonlite each number as an array
of one, its NULL as an empty object, its NA and many another language's NaN as a text.
"""

import re
from typing import Any

#: How a text says that there is no value: nothing, the words that pandas reads so (`read_csv`,
#: `na_values`), MySQL's.
MISSING = ("", "NA", "NaN", "nan", "NULL", "null", "None", "#N/A", "N/A", "n/a", "<NA>", "#NA", "-NaN",
           "-nan", "#N/A N/A", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN", "\\N")  # fmt: skip
#: A number as JSON writes it; a longer text is not looked at.
_NUMBER = re.compile(r"\s*+[+-]?+[0-9]++(?:\.[0-9]++)?+(?:[eE][+-]?+[0-9]++)?+\s*+")
_MAX_NUMBER = 50
_JSON_TYPE = {
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def got(value: Any, *, takes_null: bool = True) -> str:
    """What kind of value came, never the value itself, and how it should have come, if that is known."""
    name = _JSON_TYPE.get(type(value), "another type")
    if type(value) is list and len(value) == 1:
        return "an array of one value: send the value alone"
    if type(value) is str and len(value) <= _MAX_NUMBER and _NUMBER.fullmatch(value):
        return "a string that holds a number: send it as a number, without quotes"
    if takes_null and (value in ([], {}) or is_missing_word(value)):
        return f"{name}: send null for what is missing"
    return name


def got_no_object(value: Any) -> str:
    """As `got`, of what should have been an object."""
    if type(value) is str and value.lstrip().startswith("{"):
        return "a string that holds one: encode the object once, not twice"
    return got(value, takes_null=False)


def is_missing_word(value: Any) -> bool:
    """Whether a value is a text that says there is none."""
    return type(value) is str and value.strip() in MISSING

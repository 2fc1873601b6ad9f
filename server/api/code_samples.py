"""Requests to try, in three languages, that run as they are printed."""

from textwrap import dedent

import orjson

from server.api.openapi_schemas import row_example
from server.model.bundle import Bundle

DEFAULT_ADDRESS = "http://127.0.0.1:8000"


def examples(bundle: Bundle, address: str = DEFAULT_ADDRESS) -> dict[str, str]:
    """By language, a program that scores the example row at `address` and prints the response."""
    row = {name: value for name, value in row_example(bundle).items() if value is not None}
    compact = orjson.dumps(row).decode()
    indented = orjson.dumps(row, option=orjson.OPT_INDENT_2).decode()
    quoted = compact.replace("'", "'\\''")
    return {
        "Shell": f"curl {address}/predict -H 'Content-Type: application/json' -d '{quoted}'",
        "Python": dedent(
            """\
            import json
            from urllib.request import Request, urlopen

            row = json.loads(r'''{row}''')
            headers = {{"Content-Type": "application/json"}}
            request = Request("{address}/predict", json.dumps(row).encode(), headers)
            with urlopen(request) as answer:
                print(json.load(answer))"""
        ).format(row=indented, address=address),
        "JavaScript": dedent(
            """\
            const row = {row};
            const answer = await fetch("{address}/predict", {{
              method: "POST",
              headers: {{ "Content-Type": "application/json" }},
              body: JSON.stringify(row),
            }});
            console.log(await answer.json());"""
        ).format(row=indented, address=address),
    }

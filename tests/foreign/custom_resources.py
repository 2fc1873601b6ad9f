"""Run in the environment of foreign clients: documents as JSON on stdin; complaints on stdout.

KServe's own client library carries the fields of its resources and of the pods in
them, made from the published definitions, and so do the models of the Prometheus
operator. An unknown field, a missing one or a wrong type is a complaint.
"""

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import kserve.models
import kubernetes.client.models
from cloudcoil.models.prometheus_operator.v1 import PodMonitor, PrometheusRule
from pydantic import ValidationError

SIMPLE: dict[str, Any] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "bool": bool,
    "object": object,
    "datetime": str,
}


def complaints(kind: str, value: Any, where: str) -> Iterator[str]:
    """What is wrong with a value of an OpenAPI type, as the generated libraries name it."""
    if inner := re.fullmatch(r"[Ll]ist\[(.+)\]", kind):
        if not isinstance(value, list):
            yield f"{where}: expected a list, got {value!r}"
            return
        for place, item in enumerate(value):
            yield from complaints(inner[1], item, f"{where}[{place}]")
    elif inner := re.fullmatch(r"[Dd]ict[\[(](.+), (.+)[\])]", kind):
        for name, item in value.items():
            yield from complaints(inner[2], item, f"{where}.{name}")
    elif kind in SIMPLE:
        if not isinstance(value, SIMPLE[kind]):
            yield f"{where}: expected {kind}, got {value!r}"
    else:
        yield from of_model(kind, value, where)


def of_model(kind: str, value: dict[str, Any], where: str) -> Iterator[str]:
    """What is wrong with an object of a generated class."""
    model = getattr(kserve.models, kind, None) or getattr(kubernetes.client.models, kind, None)
    if model is None:  # a quantity, an int-or-string, a duration
        if not isinstance(value, (str, int)):
            yield f"{where}: expected a scalar for {kind}, got {value!r}"
        return
    fields = {name: model.openapi_types[attribute] for attribute, name in model.attribute_map.items()}
    for name, item in value.items():
        if name not in fields:
            yield f"{where}: {kind} has no field {name}"
        else:
            yield from complaints(fields[name], item, f"{where}.{name}")
    try:  # required fields are checked by the setters
        model(**{attribute: value.get(name) for attribute, name in model.attribute_map.items()})
    except ValueError as error:
        yield f"{where}: {error}"


def of_operator(model: Any, document: dict[str, Any]) -> Iterator[str]:
    """The models ignore what they do not know: what they give back must be what they got."""
    try:
        read = model.model_validate(document)
    except ValidationError as error:
        yield str(error)
        return
    if read.model_dump(by_alias=True, exclude_unset=True, mode="json") != document:
        yield f"{document['kind']} has fields it does not know in {document}"


def main() -> None:
    """Print what is wrong with each document, in their order."""
    classes = {"ServingRuntime": "V1alpha1ServingRuntime", "InferenceService": "V1beta1InferenceService"}
    found = []
    for document in json.load(sys.stdin):
        kind = document["kind"]
        model = {"PodMonitor": PodMonitor, "PrometheusRule": PrometheusRule}.get(kind)
        found.append(list(of_operator(model, document) if model else of_model(classes[kind], document, kind)))
    print(json.dumps(found))


if __name__ == "__main__":
    main()

"""What pydantic found, in one line a user can act on: the path of the key, what is wrong, what may stand there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

SHOWN = 3  # errors told in full
# pydantic's words are about Python; these are about YAML.
WORDS = {
    "missing": "missing",
    "dict_type": "must be a mapping of keys to values",
    "mapping_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "none_required": "must be null",
}


def one_line(error: ValidationError, model: type[BaseModel], path: str) -> str:
    """``path.of.key: what is wrong; …`` for up to three errors.

    Parameters
    ----------
    model : type
        What refused the value: its fields are what an unknown key may have been meant for.
    path : str
        Where in campaign.yaml its keys stand.
    """
    texts = [_text(item, model, path) for item in error.errors(include_url=False)[:SHOWN]]
    more = error.error_count() - len(texts)
    return "; ".join(dict.fromkeys(texts)) + (f"; and {more} more" if more else "")


def _text(item: Mapping[str, Any], model: type[BaseModel], path: str) -> str:
    where = ".".join(str(part) for part in (path, *item["loc"]) if part != "")
    if item["type"] == "extra_forbidden":
        return f"{where}: unknown key; {_suggestion(str(item['loc'][-1]), _fields(model, item['loc'][:-1]))}"
    message = item["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    what = WORDS.get(item["type"], message)
    given = item["input"]
    told = item["type"] == "missing" or isinstance(given, (dict, list)) or repr(given) in what
    return f"{where}: {what}" + ("" if told else f" (got {given!r})")


def _suggestion(key: str, fields: list[str]) -> str:
    """What the user may have meant."""
    close = get_close_matches(key, fields, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(fields)}"


def _fields(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Names of the keys of the section at `loc` below `model`."""
    for part in loc:
        if not isinstance(part, str) or part not in model.model_fields:
            continue  # an index of a list, a key of a mapping, pydantic's name of a choice
        model = next(_models(model.model_fields[part].annotation), model)
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections an annotation speaks of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)

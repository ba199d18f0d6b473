"""Make dataclasses of untrusted JSON: each value must be of its declared type."""

import types
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

Record = TypeVar('Record')


def from_json(kind: type[Record], values: Any) -> Record:
    """Return a dataclass of a JSON object; missing values get their defaults.

    Raises:
        ValueError: A value is of another type than declared, unknown, or missing and needed.
    """
    if not isinstance(values, dict):
        raise ValueError(f'no JSON object but {_short(values)}')
    hints = get_type_hints(kind)
    known = {each.name for each in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    if unknown := sorted(set(values) - known):
        raise ValueError(f'{unknown[0]!r} is unknown: correct it, or update d2l_ft')
    made = {name: convert(value, hints[name], name) for name, value in values.items()}
    try:
        return kind(**made)
    except TypeError as error:
        # "Name.__init__() missing ...": the reader of a file knows no __init__
        raise ValueError(str(error).partition(') ')[2] or str(error)) from None


def convert(value: Any, hint: Any, name: str) -> Any:
    """Return a JSON value in its declared type: lists may become tuples, objects dataclasses.

    Raises:
        ValueError: It is of another type.
    """
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        for part in parts:
            try:
                return convert(value, part, name)
            except ValueError:
                continue
    elif is_dataclass(hint):
        return from_json(hint, value)  # type: ignore[arg-type]  # a class, no instance
    elif origin in (list, tuple) and isinstance(value, list):
        return origin(convert(each, parts[0], name) for each in value)
    elif origin is dict and isinstance(value, dict):
        return {key: convert(each, parts[1], name) for key, each in value.items()}
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:  # JSON's integers have any size
                float(value)
            except OverflowError:
                raise ValueError(f'{name!r} is too large') from None
            return value
    elif hint is Any or (isinstance(hint, type) and type(value) is hint):
        return value
    raise ValueError(f'{name!r} is {_short(value)}')


def _short(value: Any) -> str:
    """Return a value as a text that fits on a line."""
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'

"""The shapes of values, from their type annotations.

A `Shape` reads plain JSON values into the annotated type, and describes them as JSON Schema (draft
2020-12). It knows `str`, `int`, `float`, `bool`, `None`, `Any`, `list[…]`, `dict[str, …]`, unions,
`Literal`, enumerations of strings, dataclasses, and any of these `Annotated` with a `Limit`.

JSON has one kind of number: `3.0` is read as the integer 3. Members that a dataclass does not have are
passed over.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .errors import Invalid, Issue


@dataclass(frozen=True)
class Limit:
    """Bounds of a value: `views: Annotated[int, Limit(minimum=0)] = 0`."""

    minimum: float | None = None
    maximum: float | None = None
    min_length: int | None = None
    """Of a string in characters, or of a list."""
    max_length: int | None = None
    message: str | None = None
    """What is said instead of which bound was met."""

    def check(self, value: Any) -> str | None:
        """What is wrong with the value."""
        length = len(value) if isinstance(value, (str, list)) else None
        for bound, broken, text in (
            (self.minimum, lambda bound: value < bound, "must be at least {}"),
            (self.maximum, lambda bound: value > bound, "must be at most {}"),
            (self.min_length, lambda bound: length < bound, "must be at least {} long"),
            (self.max_length, lambda bound: length > bound, "must be at most {} long"),
        ):
            if bound is not None and broken(bound):
                return self.message or text.format(bound)
        return None

    def schema(self, of: dict[str, Any]) -> dict[str, Any]:
        many = of.get("type") == "array"
        bounds = {
            "minimum": self.minimum,
            "maximum": self.maximum,
            "minItems" if many else "minLength": self.min_length,
            "maxItems" if many else "maxLength": self.max_length,
        }
        return {name: bound for name, bound in bounds.items() if bound is not None}


Path = tuple[str, ...]
Problems = list[Issue]

_WRONG = object()
"""What a reader gives after it noted a problem."""


@dataclass(frozen=True)
class Shape:
    """How values of one type are read and described."""

    read_into: Callable[[Any, Path, Problems], Any]
    schema: dict[str, Any]
    members: frozenset[str] | None = None
    """The members of a dataclass."""

    def read(self, value: Any) -> Any:
        """Reads a plain value; raises `Invalid` with everything that is wrong with it."""
        problems: Problems = []
        result = self.read_into(value, (), problems)
        if problems:
            raise Invalid(issues=problems)
        return result


def plain(value: Any) -> Any:
    """A value as `json.dumps` takes it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, dict):
        return {key: plain(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(member) for member in value]
    return value


@functools.cache
def shape_of(annotation: Any) -> Shape:
    """The shape of an annotation; raises `TypeError` for one that JSON cannot have."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return Shape(lambda value, path, problems: value, {})
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    if origin is typing.Annotated:
        return _limited(shape_of(arguments[0]), arguments[1:])
    if origin in (typing.Union, types.UnionType):
        return _union([shape_of(argument) for argument in arguments])
    if origin is typing.Literal:
        return _one_of(list(arguments), {value: value for value in arguments})
    if origin is list:
        return _list(shape_of(arguments[0]))
    if origin is dict and arguments[0] is str:
        return _dict(shape_of(arguments[1]))
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return _one_of([member.value for member in annotation], {member.value: member for member in annotation})
    if dataclasses.is_dataclass(annotation):
        hints = typing.get_type_hints(annotation, include_extras=True)
        fields = [field for field in dataclasses.fields(annotation) if field.init]
        return _object(
            annotation,
            {field.name: shape_of(hints[field.name]) for field in fields},
            {
                field.name: field.default if field.default is not dataclasses.MISSING else None
                for field in fields
                if field.default is not dataclasses.MISSING
                or field.default_factory is not dataclasses.MISSING
            },
        )
    raise TypeError(f"{annotation!r} has no JSON; see epicenter_workspace.shapes for what has")


def shape_of_parameters(function: Callable[..., Any]) -> Shape | None:
    """The shape of an object with a function's parameters; none for a function without."""
    parameters = inspect.signature(function).parameters
    if not parameters:
        return None
    hints = typing.get_type_hints(function, include_extras=True)
    missing = [name for name in parameters if name not in hints]
    if missing:
        raise TypeError(f"{function.__name__} does not say the type of {', '.join(missing)}")
    defaults = {
        name: parameter.default
        for name, parameter in parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    return _object(dict, {name: shape_of(hints[name]) for name in parameters}, defaults)


def _scalar(schema: dict[str, Any], what: str, fits: Callable[[Any], bool], convert=lambda value: value) -> Shape:
    def read(value: Any, path: Path, problems: Problems) -> Any:
        if fits(value):
            return convert(value)
        problems.append(Issue(path, f"must be {what}, not {_name(value)}"))
        return _WRONG

    return Shape(read, schema)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_SCALARS: dict[Any, Shape] = {
    str: _scalar({"type": "string"}, "a string", lambda value: isinstance(value, str)),
    bool: _scalar({"type": "boolean"}, "true or false", lambda value: isinstance(value, bool)),
    int: _scalar(
        {"type": "integer"}, "a whole number", lambda value: _is_number(value) and value == value // 1, int
    ),
    float: _scalar({"type": "number"}, "a number", _is_number, float),
    type(None): _scalar({"type": "null"}, "null", lambda value: value is None),
}


def _limited(shape: Shape, metadata: tuple[Any, ...]) -> Shape:
    limits = [item for item in metadata if isinstance(item, Limit)]

    def read(value: Any, path: Path, problems: Problems) -> Any:
        result = shape.read_into(value, path, problems)
        if result is not _WRONG:
            problems.extend(Issue(path, text) for limit in limits if (text := limit.check(result)))
        return result

    schema = dict(shape.schema)
    for limit in limits:
        schema |= limit.schema(shape.schema)
    return dataclasses.replace(shape, read_into=read, schema=schema)


def _union(shapes: list[Shape]) -> Shape:
    def read(value: Any, path: Path, problems: Problems) -> Any:
        attempts = []
        for shape in shapes:
            found: Problems = []
            result = shape.read_into(value, path, found)
            if not found:
                return result
            attempts.append(found)
        # The one that came furthest knows best what was meant.
        problems.extend(max(attempts, key=lambda found: max(len(issue.path) for issue in found)))
        return _WRONG

    return Shape(read, {"anyOf": [shape.schema for shape in shapes]})


def _one_of(values: list[Any], results: dict[Any, Any]) -> Shape:
    def read(value: Any, path: Path, problems: Problems) -> Any:
        if isinstance(value, (str, int)) and value in results:
            return results[value]
        problems.append(Issue(path, f"must be one of {', '.join(map(repr, values))}"))
        return _WRONG

    return Shape(read, {"enum": values})


def _list(member: Shape) -> Shape:
    def read(value: Any, path: Path, problems: Problems) -> Any:
        if isinstance(value, list):
            return [member.read_into(item, (*path, str(index)), problems) for index, item in enumerate(value)]
        problems.append(Issue(path, f"must be a list, not {_name(value)}"))
        return _WRONG

    return Shape(read, {"type": "array", "items": member.schema})


def _dict(member: Shape) -> Shape:
    def read(value: Any, path: Path, problems: Problems) -> Any:
        if isinstance(value, dict):
            return {key: member.read_into(item, (*path, key), problems) for key, item in value.items()}
        problems.append(Issue(path, f"must be an object, not {_name(value)}"))
        return _WRONG

    return Shape(read, {"type": "object", "additionalProperties": member.schema})


def _object(make: Callable[..., Any], members: dict[str, Shape], defaults: dict[str, Any]) -> Shape:
    def read(value: Any, path: Path, problems: Problems) -> Any:
        if not isinstance(value, dict):
            problems.append(Issue(path, f"must be an object, not {_name(value)}"))
            return _WRONG
        before = len(problems)
        arguments = {}
        for name, member in members.items():
            if name in value:
                arguments[name] = member.read_into(value[name], (*path, name), problems)
            elif name not in defaults:
                problems.append(Issue((*path, name), "is required"))
        return make(**arguments) if len(problems) == before else _WRONG

    def described(name: str) -> dict[str, Any]:
        default = plain(defaults.get(name))
        return members[name].schema | ({} if default is None else {"default": default})

    schema = {
        "type": "object",
        "properties": {name: described(name) for name in members},
        "required": [name for name in members if name not in defaults],
    }
    return Shape(read, schema, frozenset(members))


def _name(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{value}"' if len(value) <= 40 else "a string"
        case int() | float():
            return str(value)
        case list():
            return "a list"
        case _:
            return "an object"

"""A loss in one line, `adma:a=0.26,base=2,normalize=true`: how commands, files and reports write it.

`parse` and `format_spec` are exact inverses; `register` adds a loss of your own:

    >>> from adma.spec import parse, format_spec
    >>> parse("adma:a=0.3")
    Adma(a=0.3, base=2.718281828459045, normalize=False)
    >>> format_spec(parse("adma:base=2, a=0.3"))
    'adma:a=0.3,base=2.0'
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

from adma import _check, asymmetric, classic, family, taylor
from adma.family import Loss

_L = TypeVar("_L", bound=type[Loss])
_REGISTRY: dict[str, type[Loss]] = {}
_ALIASES: dict[str, str] = {}


def register(cls: _L) -> _L:
    """Make a loss known by its `name` and `aliases`; also usable as a class decorator.

    Raises:
        TypeError: not a frozen dataclass derived from `adma.family.Loss`.
        ValueError: the name (or an alias) is missing, is not an identifier, or belongs to another loss.
    """
    if not (inspect.isclass(cls) and issubclass(cls, Loss) and is_dataclass(cls)):
        raise TypeError(f"register takes a frozen dataclass derived from adma.family.Member, got {cls!r}")
    if "__dataclass_fields__" not in vars(cls):  # inherited: its own parameters would go unseen
        raise TypeError(f"{cls.__name__} must be a frozen dataclass: put @dataclass(frozen=True) below @register")
    if not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise TypeError(f"{cls.__name__} must be a frozen dataclass: a spec stands for one value")
    name: Any = getattr(cls, "name", None)
    if not _is_word(name):
        raise ValueError(f"{cls.__name__}.name must be a word such as 'adma', got {name!r}")
    if not (isinstance(cls.aliases, tuple) and all(map(_is_word, cls.aliases))):
        raise ValueError(f"{cls.__name__}.aliases must be a tuple of words such as ('ce',), got {cls.aliases!r}")
    for word in (name, *cls.aliases):
        holder = _REGISTRY.get(_ALIASES.get(word, word))
        if holder is not None and _path(holder) != _path(cls):
            raise ValueError(f"the name {word!r} of {cls.__name__} belongs to {holder.__name__}")
    _REGISTRY[name] = cls
    _ALIASES.update(dict.fromkeys(cls.aliases, name))
    return cls


def _is_word(name: Any) -> bool:
    return isinstance(name, str) and name.replace("-", "_").isidentifier()


def _path(cls: type) -> str:
    """A class's place: a module that is loaded again registers its losses again."""
    return f"{cls.__module__}.{cls.__qualname__}"


def known() -> dict[str, type[Loss]]:
    """All registered losses by name."""
    return dict(_REGISTRY)


def parse(text: str) -> Loss:
    """The loss that a spec stands for.

    Args:
        text: `NAME` or `NAME:key=value,key=value`; numbers as Python writes them (`e` and `pi` too), `true` and
            `false`; spaces around the marks do not count.

    Raises:
        TypeError: `text` is no string.
        ValueError: an unknown name or key (with the known ones and the nearest spelling), a repeated key, a
            value that is not of its key's kind, or one that the loss refuses.
    """
    cls, written = split(text)
    return build(text, cls, {key: read(text, cls, key, value) for key, value in written.items()})


def split(text: str) -> tuple[type[Loss], dict[str, str]]:
    """A spec's loss and its values as they are written, under keys that the loss has.

    Raises:
        TypeError, ValueError: as `parse`, but for the values.
    """
    if not isinstance(text, str):
        raise TypeError(f"a loss is written as a string such as 'adma:a=0.26', got {text!r} ({type(text).__name__})")
    name, colon, tail = text.partition(":")
    name = name.strip()
    cls = _REGISTRY.get(_ALIASES.get(name, name))
    if cls is None:
        near = _check.nearest(name, [*_REGISTRY, *_ALIASES])
        raise ValueError(f"loss {name!r} is not known{near}; known: {', '.join(_REGISTRY)}")
    keys = [f.name for f in fields(cls)]
    written: dict[str, str] = {}
    if colon and not tail.strip():
        raise ValueError(f"{text!r}: nothing stands behind the colon; write {name!r}, or {_example(cls)!r}")
    for part in tail.split(",") if colon else []:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key or not value:
            raise ValueError(f"{text!r}: {part.strip()!r} is not of the form key=value; write {_example(cls)!r}")
        if key not in keys:
            listing = f"it has {', '.join(keys)}" if keys else "it has none"
            near = _check.nearest(key, keys)
            raise ValueError(f"{text!r}: {cls.name} has no parameter {key!r}{near}; {listing}")
        if key in written:
            raise ValueError(f"{text!r}: {key} is given twice")
        written[key] = value
    return cls, written


def read(text: str, cls: type[Loss], key: str, value: str) -> Any:
    """A parameter's value as it is written in the spec `text`.

    Raises:
        ValueError: it is not of its key's kind.
    """
    kind = next(_kind(f) for f in fields(cls) if f.name == key)
    if kind == "bool":
        if value.lower() in ("true", "false"):
            return value.lower() == "true"
        raise ValueError(f"{text!r}: {key} must be true or false, got {value!r}")
    if kind == "int":
        try:
            return int(value)
        except ValueError:
            raise ValueError(f"{text!r}: {key} must be a whole number, got {value!r}") from None
    if kind == "str":
        return value
    try:
        return number(value)
    except ValueError as error:
        raise ValueError(f"{text!r}: {key} {error}") from None


def number(text: str) -> float:
    """A number as Python writes it, or `e`, or `pi`.

    Raises:
        ValueError: "must be a number, got ...".
    """
    named = {"e": math.e, "pi": math.pi}
    try:
        return named[text] if text in named else float(text.replace("_", "x"))
    except ValueError:
        raise ValueError(f"must be a number, got {text!r}") from None


def numeric(cls: type[Loss]) -> list[str]:
    """The parameters that are real numbers."""
    return [f.name for f in fields(cls) if _kind(f) == "float"]


def build(text: str, cls: type[Loss], values: Mapping[str, Any]) -> Loss:
    """The loss with these values, as the spec `text` asks for.

    Raises:
        ValueError: one is missing, or the loss refuses one.
    """
    missing = [f.name for f in fields(cls) if f.default is MISSING and f.name not in values]
    if missing:
        raise ValueError(f"{text!r}: {cls.name} needs {missing[0]}; write {_example(cls)!r}")
    try:
        return cls(**values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{text!r}: {error}") from error


def format_spec(loss: Loss, written: Mapping[str, str] | None = None) -> str:
    """The shortest spec that stands for `loss`: parameters at their default are left out, but a first one is not.

    Args:
        loss: the loss.
        written: parameter -> what is written in the place of its value.
    """
    words = written or {}
    parts = []
    for index, f in enumerate(fields(loss)):
        value = getattr(loss, f.name)
        if index and value == f.default and f.name not in words:
            continue
        parts.append(f"{f.name}={words[f.name] if f.name in words else _write(value)}")
    return f"{loss.name}:{','.join(parts)}" if parts else loss.name


def _write(value: Any) -> str:
    """What `_read` reads back: NumPy's scalars and strings not as their repr."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value
    return repr(float(value)) if isinstance(value, float) else repr(value)


def canonical(text: str) -> str:
    """A spec in its one normal form: two specs of the same loss give the same text."""
    return format_spec(parse(text))


def _kind(f: Any) -> str:
    return f.type if isinstance(f.type, str) else f.type.__name__


def _example(cls: type[Loss]) -> str:
    first = fields(cls)[:1]
    value = first[0].default if first and first[0].default is not MISSING else "..."
    return cls.name + (f":{first[0].name}={value}" if first else "")


for _loss in (
    family.CrossEntropy,
    family.Adma,
    family.GeneralizedCrossEntropy,
    family.MeanAbsoluteError,
    family.Focal,
    family.Poly1,
    taylor.TaylorCrossEntropy,
    asymmetric.AsymmetricGeneralizedCrossEntropy,
    asymmetric.AsymmetricUnhinged,
    asymmetric.AsymmetricExponential,
    classic.MeanSquaredError,
    classic.SquaredHinge,
    classic.BiTempered,
    classic.SmoothedCrossEntropy,
    classic.SymmetricCrossEntropy,
    classic.ActivePassive,
    classic.SemanticCrossEntropy,
    classic.LargeMarginSoftmax,
):
    register(_loss)

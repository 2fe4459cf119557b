"""A study as a YAML document: which losses, on which data, in which settings, at which scales.

    title: Does the activation matter?
    extends: table3.yaml          # optional: everything not said here is as there
    data: [digits, photos/]       # names or paths, as `adma compare` takes them
    losses: [cce, "adma:a=0.26"]
    seeds: 5
    epochs: 20                    # and any other setting of `Options`
    per_data: {digits: {epochs: 40}}
    variants: {elu: {}, relu: {model: "convnet:activation=relu"}}
    scales: {smoke: {epochs: 2, max_train_size: 300}, paper: {}}

What is said later wins: the file, `per_data`, the scale, the scale's `per_data`, the variant, the command line.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationError,
)
from pydantic_core import ErrorDetails

from adma._check import MOST, MOST_RUNS, nearest
from adma.bench.errors import BenchError


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def _spec(value: Any) -> Any:
    """A spec may be a number alone, such as `label_noise: 0.4`."""
    return repr(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _size(value: Any) -> str:
    if not (isinstance(value, str) and re.fullmatch(r"[1-9][0-9]*x[1-9][0-9]*", value)):
        raise ValueError("must be HEIGHTxWIDTH such as 32x32, at least 1x1")
    return value


def _variant(name: str) -> str:
    if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
        raise ValueError("a variant's name may hold only letters, digits and . _ -")
    return name


def _list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value  # one name may stand without brackets


def _null_is_nothing(value: Any) -> Any:
    """`relu:` without a value changes nothing, nor does `variants:`."""
    if value is None:
        return {}
    return {k: {} if v is None else v for k, v in value.items()} if isinstance(value, dict) else value


# YAML reads 1e-3 as text: a number may be written so. A whole number may not, and true is no number.
Real = Annotated[float, BeforeValidator(_number)]
Share = Annotated[Real, Field(gt=0, lt=1)]
Spec = Annotated[str, BeforeValidator(_spec)]
Count = Annotated[StrictInt, Field(ge=1, le=MOST)]
Runs = Annotated[StrictInt, Field(ge=1, le=MOST_RUNS)]


class Options(BaseModel):
    """Settings, each optional; they mean what `study.Setting` says.

    max_train_size: train on at most so many samples, null for all: data sets that are smaller are used whole.
    image_size: HEIGHTxWIDTH that images are resized to, null for what the data set has.
    seeds: how many runs of each loss.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    losses: list[str] | None = Field(default=None, min_length=1)
    seeds: Runs | None = None
    epochs: Count | None = None
    model: str | None = None
    optimizer: str | None = None
    lr: Annotated[Real, Field(gt=0, allow_inf_nan=False)] | None = None
    lr_schedule: str | None = None
    weight_decay: Annotated[Real, Field(ge=0, allow_inf_nan=False)] | None = None
    batch_size: Count | None = None
    max_train_size: Count | None = None
    eval_size: Count | None = None
    val_fraction: Share | None = None
    test_fraction: Share | None = None
    grouped: StrictBool | None = None
    train_fraction: Share | None = None
    imbalance: Spec | None = None
    label_noise: Spec | None = None
    noisy_val: StrictBool | None = None
    augment: str | None = None
    image_size: Annotated[str, BeforeValidator(_size)] | None = None

    def said(self) -> dict[str, Any]:
        """What was given, also where it was null."""
        return {k: getattr(self, k) for k in self.model_fields_set if k in Options.model_fields}


class Layer(Options):
    """Options for all data sets and for single ones, and variants of the study."""

    per_data: Annotated[dict[str, Options], BeforeValidator(_null_is_nothing)] = {}
    variants: Annotated[dict[Annotated[str, AfterValidator(_variant)], Options], BeforeValidator(_null_is_nothing)] = {}


class Scale(Layer):
    """What a scale changes; its data sets and variants replace the document's."""

    data: Annotated[list[str] | None, BeforeValidator(_list), Field(min_length=1)] = None


class StudyFile(Layer):
    """A study document; see the module.

    table: which of the paper's tables the results stand beside.
    """

    title: str
    data: Annotated[list[str], BeforeValidator(_list), Field(min_length=1)]
    table: Annotated[StrictInt, Field(ge=1, le=4)] | None = None
    scales: Annotated[dict[str, Scale], BeforeValidator(_null_is_nothing)] = {}


@dataclass(frozen=True)
class Task:
    """One comparison that a document asks for. options: of `Options`, what was given after all merging."""

    name: str
    data: str
    variant: str
    options: Mapping[str, Any]


def read_study(path: Path, *, find: Mapping[str, Path] | None = None, known: Collection[str] = ()) -> StudyFile:
    """Read and check a document.

    Args:
        find: name -> file of published studies, which `extends` may name too; what lies beside the document wins.
        known: names that `per_data` may hold beside the data sets of the document and of those it extends.

    Raises:
        BenchError: unreadable, no YAML, nested too deep, a key that is unknown or there twice, a value of the wrong
            kind, a circle of `extends`, settings for a data set that there is not.
    """
    content: dict[str, Any] = {}
    try:
        layers = _layers(path, find or {}, ())
        for layer in layers:
            content = _over(content, layer)
    except RecursionError as error:  # brackets by the thousand, or an alias of what it stands in
        raise BenchError(
            f"{path}: lists or mappings stand too deep in one another, here or in what it extends; a study needs four "
            "levels"
        ) from error
    try:
        study = StudyFile.model_validate(content)
    except ValidationError as error:
        raise BenchError(f"{path}: {'; '.join(map(_in_words, error.errors()))}") from error
    names = dict.fromkeys([*study.data, *(name for layer in layers for name in _data_of(layer)), *known])
    for place, part in [("per_data", study), *((f"scales.{k}.per_data", v) for k, v in study.scales.items())]:
        for name in part.per_data:
            if name not in names:
                raise BenchError(
                    f"{path}: {place}.{name}: the study has no such data set{nearest(name, names)}; its data: "
                    f"{', '.join(study.data)}"
                )
    return study


def tasks(
    study: StudyFile,
    *,
    scale: str | None = None,
    data: Sequence[str] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> list[Task]:
    """The comparisons of a document, data set by data set.

    Args:
        scale: one of the document's; None takes its first (a document without scales runs as it is).
        data: data sets in the place of the document's own.
        changes: options of the command line.

    Raises:
        BenchError: an unknown scale; a data set twice; no losses.
    """
    scale = chosen_scale(study, scale)
    of_scale = study.scales[scale] if scale else Scale()
    names = list(data or of_scale.data or study.data)
    # A variant's name has no "/", so where the data sets differ the tasks' names do.
    if len({name if name.isidentifier() else str(Path(name).resolve()) for name in names}) < len(names):
        raise BenchError(f"a data set is named twice: {', '.join(names)}; name each once")
    found = []
    for name in names:
        for variant, options in (of_scale.variants or study.variants or {"": Options()}).items():
            layers: Iterable[Options | None] = (
                study, study.per_data.get(name), of_scale, of_scale.per_data.get(name), options,
            )  # fmt: skip
            merged: dict[str, Any] = {}
            for layer in layers:
                merged |= layer.said() if layer else {}
            merged |= changes or {}
            if not merged.get("losses"):
                raise BenchError(f"{study.title}: no losses are given for {name}; give losses: [cce, 'adma:a=0.26']")
            found.append(Task(f"{name}/{variant}" if variant else name, name, variant, merged))
    return found


def chosen_scale(study: StudyFile, scale: str | None) -> str:
    """The scale's name, the document's first if none is asked for, "" where it has none."""
    if scale is None:
        return next(iter(study.scales), "")
    if scale not in study.scales:
        known = ", ".join(study.scales) or "none: leave --scale out"
        raise BenchError(f"--scale {scale}: this study has no such scale{nearest(scale, study.scales)}; known: {known}")
    return scale


class _Twice(yaml.MarkedYAMLError):
    """A key stands twice in one mapping."""


class _Loader(yaml.SafeLoader):
    """YAML in which a key may stand once: of two, one would be lost."""

    # Keys are looked at as they are written: later `<<` has put other mappings' keys among them, lawfully.
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                name, line = (key.tag, key.value), key.start_mark.line + 1
                if name in lines:
                    raise _Twice(problem=f"the key {key.value!r} is there twice (line {lines[name]} and line {line})")
                lines[name] = line
        return node


def _layers(path: Path, find: Mapping[str, Path], above: tuple[Path, ...]) -> list[dict[str, Any]]:
    """What the document says, after what those say that it extends."""
    here = path.resolve()
    if here in above:
        chain = " -> ".join(p.name for p in (*above[above.index(here) :], here))
        raise BenchError(f"{path}: extends itself ({chain}); remove one `extends`")
    content = _read(path)
    base = content.pop("extends", None)
    if base is None:
        return [content]
    if not isinstance(base, str):
        raise BenchError(f"{path}: extends must name one study or .yaml file, got {base!r}")
    stem = base.removesuffix(".yaml")
    beside = [path.parent / name for name in dict.fromkeys([base, f"{stem}.yaml", stem])]
    found = [p for p in beside if p.is_file()] + [find[name] for name in [stem] if name in find]
    if not found:
        published = f", nor is a study of that name published{nearest(stem, find)}" if find else ""
        raise BenchError(f"{path}: extends {base}: there is no {beside[0]}{published}")
    # A document that has the name of a published one may extend that.
    target = next((p for p in found if p.resolve() != here), found[0])
    return [*_layers(target, find, (*above, here)), content]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise BenchError(f"{path}: cannot be read ({error.strerror}); name a study's .yaml file") from error
    except _Twice as error:
        raise BenchError(f"{path}: {error.problem}; keep one of them") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, or a date that there is not
        raise BenchError(f"{path}: is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise BenchError(f"{path}: must hold keys such as title, data and losses, got {type(content).__name__}")
    return content


def _over(base: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    """`content` over `base`: mappings key by key, everything else whole; `variants` whole."""
    merged = dict(base)
    for key, value in content.items():
        mine = merged.get(key)
        if isinstance(mine, dict) and value is None:
            continue  # a key without a value changes nothing
        deep = isinstance(mine, dict) and isinstance(value, dict) and key != "variants"
        merged[key] = _over(mine, value) if deep else value  # type: ignore[arg-type]
    return merged


def _data_of(content: Mapping[str, Any]) -> Iterator[str]:
    """The data sets that a document names, before it is checked: another may have replaced them by now."""
    scales = content.get("scales")
    for part in (content, *(scales.values() if isinstance(scales, dict) else ())):
        data = _list(part.get("data")) if isinstance(part, dict) else None
        yield from (name for name in data if isinstance(name, str)) if isinstance(data, list) else ()


_WORDS = {
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "list_type": "must be a list such as [a, b]",
    "too_short": "must name at least one",
    "model_type": "must hold settings, each with its key",
    "dict_type": "must hold names, each with its settings",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le}",
}


def _in_words(problem: ErrorDetails) -> str:
    kind, got, context = problem["type"], problem["input"], problem.get("ctx", {})
    parts = [str(part) for part in problem["loc"]]
    of_key = parts[-1:] == ["[key]"]
    where = ".".join(parts[:-1] if of_key else parts) or "the document"
    if kind == "extra_forbidden":
        known = _allowed(parts[:-1])
        return f"{where} is not known{nearest(parts[-1], known)}; known here: {', '.join(known)}"
    if kind == "missing":
        return f"{where} is missing"
    if kind == "invalid_key" or (of_key and kind == "string_type"):
        place = ".".join(parts[: -2 if of_key else -1]) or "the document"
        key = got if of_key else parts[-1]
        return f"{place}: a name must be text, but YAML reads one as {key}; put it in quotes"
    if kind == "value_error":
        words = str(context["error"])
    else:
        words = _WORDS[kind].format_map(context) if kind in _WORDS else problem["msg"]
    return f"{where}: {words}, got {got!r}"


def _allowed(place: Sequence[str]) -> list[str]:
    """The keys that may stand at a place of a document."""
    if not place:
        return ["extends", *StudyFile.model_fields]
    return list((Scale if len(place) == 2 and place[0] == "scales" else Options).model_fields)

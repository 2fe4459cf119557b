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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from adma._check import nearest
from adma.bench.errors import BenchError

Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class Options(BaseModel):
    """Settings, each optional; they mean what `study.Setting` says.

    max_train_size: train on at most so many samples, null for all: data sets that are smaller are used whole.
    image_size: HEIGHTxWIDTH that images are resized to, null for what the data set has.
    seeds: how many runs of each loss.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    losses: list[str] | None = Field(default=None, min_length=1)
    seeds: Count | None = None
    epochs: Count | None = None
    model: str | None = None
    optimizer: str | None = None
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    lr_schedule: str | None = None
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    batch_size: Count | None = None
    max_train_size: Count | None = None
    eval_size: Count | None = None
    val_fraction: Share | None = None
    test_fraction: Share | None = None
    grouped: bool | None = None
    augment: str | None = None
    image_size: Annotated[str, Field(pattern=r"^\d+x\d+$")] | None = None

    def said(self) -> dict[str, Any]:
        """What was given, also where it was null."""
        return {k: getattr(self, k) for k in self.model_fields_set if k in Options.model_fields}


class Layer(Options):
    """Options for all data sets and for single ones, and variants of the study."""

    per_data: dict[str, Options] = {}
    variants: dict[str, Options] = {}


def _list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value  # one name may stand without brackets


class Scale(Layer):
    """What a scale changes; its data sets and variants replace the document's."""

    data: Annotated[list[str] | None, BeforeValidator(_list), Field(min_length=1)] = None


class StudyFile(Layer):
    """A study document; see the module.

    table: which of the paper's tables the results stand beside.
    """

    title: str
    data: Annotated[list[str], BeforeValidator(_list), Field(min_length=1)]
    table: Annotated[int, Field(ge=1, le=4)] | None = None
    scales: dict[str, Scale] = {}


@dataclass(frozen=True)
class Task:
    """One comparison that a document asks for. options: of `Options`, what was given after all merging."""

    name: str
    data: str
    variant: str
    options: Mapping[str, Any]


def read_study(path: Path, *, find: Mapping[str, Path] | None = None) -> StudyFile:
    """Read and check a document.

    Args:
        find: name -> file of published studies, for `extends`; else a path beside the document.

    Raises:
        BenchError: unreadable, no YAML, an unknown key, a value of the wrong kind, a circle of `extends`.
    """
    content = _merged(path, find or {}, ())
    try:
        return StudyFile.model_validate(content)
    except ValidationError as error:
        raise BenchError(f"{path}: {_in_words(error)}") from error


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
    if len(set(names)) < len(names):
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


def _merged(path: Path, find: Mapping[str, Path], above: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in above:
        raise BenchError(f"{path}: extends itself; remove its `extends`")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BenchError(f"{path}: cannot be read ({error.strerror}); name a study's .yaml file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BenchError(f"{path}: is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise BenchError(f"{path}: must hold keys such as title, data and losses, got {type(content).__name__}")
    base = content.pop("extends", None)
    if base is None:
        return content
    target = find.get(str(base).removesuffix(".yaml")) or path.parent / str(base)
    return _over(_merged(target, find, (*above, path.resolve())), content)


def _over(base: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    """`content` over `base`: mappings key by key, everything else whole; `variants` whole."""
    merged = dict(base)
    for key, value in content.items():
        mine = merged.get(key)
        deep = isinstance(mine, dict) and isinstance(value, dict) and key != "variants"
        merged[key] = _over(mine, value) if deep else value  # type: ignore[arg-type]
    return merged


def _in_words(error: ValidationError) -> str:
    problems = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"]) or "the document"
        if problem["type"] == "extra_forbidden":
            known = {1: StudyFile}.get(len(problem["loc"]), Scale).model_fields
            hint = nearest(str(problem["loc"][-1]), known)
            problems.append(f"{where} is not known{hint}; known: {', '.join(known)}")
        elif problem["type"] == "missing":
            problems.append(f"{where} is missing")
        else:
            problems.append(f"{where}: {problem['msg'][0].lower()}{problem['msg'][1:]}, got {problem['input']!r}")
    return "; ".join(problems)

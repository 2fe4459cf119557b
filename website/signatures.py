"""For mkdocstrings: signatures as `inspect.signature` tells them, and examples of docstrings as blocks of code."""

from __future__ import annotations

import inspect
import re
from typing import Any

import griffe

_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: griffe.ParameterKind.positional_only,
    inspect.Parameter.POSITIONAL_OR_KEYWORD: griffe.ParameterKind.positional_or_keyword,
    inspect.Parameter.VAR_POSITIONAL: griffe.ParameterKind.var_positional,
    inspect.Parameter.KEYWORD_ONLY: griffe.ParameterKind.keyword_only,
    inspect.Parameter.VAR_KEYWORD: griffe.ParameterKind.var_keyword,
}


_EXAMPLE = re.compile(r"^>>> .*(?:\n(?!\s*$).*)*", flags=re.MULTILINE)


class Signatures(griffe.Extension):
    """Gives a loss's module the parameters that `help` shows, and hides members whose value is but an address."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        self._fence(obj)

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:  # the topmost is no object to on_object
        self._fence(pkg)

    def _fence(self, obj: griffe.Object) -> None:
        """What begins with >>> at the margin would be a quotation."""
        if obj.docstring is not None and "```pycon" not in obj.docstring.value:
            obj.docstring.value = _EXAMPLE.sub(lambda m: f"```pycon\n{m[0]}\n```", obj.docstring.value)

    def on_class_members(self, *, node: Any, cls: griffe.Class, **_: Any) -> None:
        if not hasattr(node.obj, "kind"):  # the losses' modules are those that stand for a kind of loss
            return
        for name in [n for n, m in cls.members.items() if " object at 0x" in str(getattr(m, "value", ""))]:
            cls.del_member(name)
        if "kind" in cls.members:
            cls.del_member("kind")
        if "__init__" in cls.members:
            cls.del_member("__init__")
        parameters = [
            griffe.Parameter(
                p.name, annotation=_text(p.annotation), kind=_KINDS[p.kind], default=_text(p.default, repr)
            )
            for p in inspect.signature(node.obj).parameters.values()
        ]
        cls.set_member("__init__", griffe.Function("__init__", parameters=griffe.Parameters(*parameters), parent=cls))


def _text(value: Any, write: Any = inspect.formatannotation) -> str | None:
    if value is inspect.Parameter.empty:
        return None
    return value if isinstance(value, str) and write is not repr else write(value)

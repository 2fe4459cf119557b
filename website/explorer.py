"""What the page "Move the curves" is told of the members: names, parameters, defaults and ranges, as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import fields

from adma.family import Member
from adma.spec import known
from losses import note

WIDER = {("adma", "a"): 1.0}  # up to here, to see what is beyond the convex range


def members() -> str:
    """The members of the family in the registry's order."""
    found = []
    for name, cls in known().items():
        if not issubclass(cls, Member):
            continue
        parameters = []
        for f in fields(cls):
            default = getattr(cls(), f.name)
            if isinstance(default, bool):
                parameters.append({"name": f.name, "kind": "bool", "default": default})
                continue
            reach = cls.space[f.name]
            high = WIDER.get((name, f.name), reach.high)
            step = 1 if reach.whole else 10.0 ** math.floor(math.log10((high - reach.low) / 40))
            parameters.append(
                {"name": f.name, "kind": "number", "default": default, "low": reach.low, "high": high, "step": step}
            )
        found.append({"name": name, "title": note(name)[0], "parameters": parameters})
    return json.dumps(found)

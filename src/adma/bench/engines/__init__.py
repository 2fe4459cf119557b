"""Where cells are trained. An engine takes cells and yields events; it knows nothing of the store."""

from adma.bench.engines.base import Began, Engine, Event, Finished, Reached

__all__ = ["Began", "Engine", "Event", "Finished", "Reached"]

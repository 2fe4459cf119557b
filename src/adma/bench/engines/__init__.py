"""Where cells are trained. An engine takes cells and yields events; it knows nothing of results that are stored."""

from adma.bench.engines.base import Began, Engine, Event, Finished, Reached, Retried, Stopped, Waited

__all__ = ["Began", "Engine", "Event", "Finished", "Reached", "Retried", "Stopped", "Waited"]

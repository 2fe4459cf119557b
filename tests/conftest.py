"""What all tests share: property tests that draw the same examples each run, and have no deadline."""

from hypothesis import settings

settings.register_profile("adma", deadline=None, derandomize=True, database=None)
settings.load_profile("adma")

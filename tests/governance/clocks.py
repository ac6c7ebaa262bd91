"""A clock for tests, in datetimes."""

from datetime import UTC, datetime, timedelta

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)  # a Saturday


class Clock:
    """It moves when it is told to."""

    def __init__(self, now=NOW):
        self.now = now

    def __call__(self):
        return self.now

    def move(self, **amount):
        self.now += timedelta(**amount)

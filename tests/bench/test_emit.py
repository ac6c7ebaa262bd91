"""The benchmark of the emitter: it emits, reads back, and notices what is missing."""

import itertools

from bench import emit
from outlay import UsageEmitter


def test_a_smoke_run_is_correct(run_smoke, kafka):
    """Our own side only."""
    result = run_smoke(emit, kafka)
    assert result.correct, result.wrong
    assert {"emit_call_us", "delivered_per_s", "delivered_cpu_us_per_record"} <= set(result.results)
    assert not result.goals


def test_a_wrong_total_is_noticed(run_smoke, kafka, monkeypatch):
    """An emitter that loses one record in a thousand, and says that it took it, fails it."""
    right = UsageEmitter.emit
    numbers = itertools.count()

    def lossy(self, **fields):
        return True if next(numbers) % 1_000 == 7 else right(self, **fields)

    monkeypatch.setattr(UsageEmitter, "emit", lossy)
    result = run_smoke(emit, kafka)
    assert not result.correct
    assert any("delivered: arrived" in wrong for wrong in result.wrong)
    assert any("delivered: nano-dollars" in wrong for wrong in result.wrong)

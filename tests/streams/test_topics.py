"""The topics as the worker makes them."""

from __future__ import annotations

from schemas.settings import Settings
from streams.topics import AUDIT_RETENTION_DAYS, topic_specs


def test_the_audit_is_kept_for_over_a_year_and_never_compacted() -> None:
    """Of a scope's changes a compacted topic keeps the last; the broker's default may be that."""
    settings = Settings(totals_partitions=5)
    specs = {spec.name: spec for spec in topic_specs(settings)}
    audit = specs[settings.topics.audit]
    assert audit.config == {
        "cleanup.policy": "delete",
        "retention.ms": str(AUDIT_RETENTION_DAYS * 24 * 3_600_000),
    }
    assert AUDIT_RETENTION_DAYS > 366
    # A record goes to the partition that its request stood in.
    assert audit.partitions == specs[settings.topics.budgets].partitions == 5

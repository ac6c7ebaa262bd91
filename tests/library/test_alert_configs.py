"""Alert configurations, followed from their topic: what is known, and from when on."""

import asyncio
import logging

import pytest

from outlay.alert_config import AlertConfig, AlertConfigRecord, encode_config_record
from outlay.alert_configs import AlertConfigs
from outlay.alert_following import RECORD_BYTES_MAX
from outlay.errors import FeedNotReady
from tests.library.library_fakes import FakeReader, FakeTopic

KEY = "organization:acme"


class Reader(FakeReader):
    """A reader that also says where the topic ends."""

    async def ends(self):
        if self.topic.away:
            raise self.topic.start_error
        return dict(enumerate(self.topic.ends))


def _followed(topic):
    return AlertConfigs(reader_factory=lambda: Reader(topic))


def _tell(topic, config=None, key=KEY, version=1, partition=0):
    value = config and encode_config_record(AlertConfigRecord(key, version, config))
    topic.append(key.encode(), value, partition)


def test_the_last_of_each_scope_is_known():
    """A tombstone takes it away; before anything was read, nothing is known and that is said."""
    topic = FakeTopic(2)
    _tell(topic, AlertConfig(cooldown_minutes=1))
    _tell(topic, AlertConfig(cooldown_minutes=2), version=4)
    _tell(topic, AlertConfig(), key="organization:other", partition=1)
    configs = _followed(topic)
    assert (configs.ready, configs.get(KEY)) == (False, None)
    with pytest.raises(FeedNotReady, match="not followed"):
        configs.wait_current(1)
    with configs:
        configs.wait_current(10)
        assert configs.ready
        assert (configs.get(KEY).version, configs.get(KEY).config.cooldown_minutes) == (4, 2)
        assert set(configs.records) == {KEY, "organization:other"}
        _tell(topic, None)
        configs.wait_current(10)
        assert configs.get(KEY) is None
    assert set(configs.records) == {"organization:other"}


def test_what_was_published_before_is_known_after():
    """Each time, in any event loop: whoever has seen a decision sees its configuration."""

    async def main():
        topic = FakeTopic(2)
        async with _followed(topic) as configs:
            for minutes in range(1, 20):
                _tell(topic, AlertConfig(cooldown_minutes=minutes), partition=minutes % 2)
                await configs.await_current(10)
                assert configs.get(KEY).config.cooldown_minutes == minutes

    asyncio.run(main())


def test_what_cannot_be_read_is_left_out_and_not_told(caplog):
    """It may hold a secret; the one before stays."""
    topic = FakeTopic(1)
    _tell(topic, AlertConfig(cooldown_minutes=1))
    told = b'{"scope":"x","version":1,"config":{"email_recipients":["very-secret"]}}'
    for value in (told, b"{" + b" " * RECORD_BYTES_MAX + b"}", b"\xff"):
        topic.append(KEY.encode(), value, 0)
    with caplog.at_level(logging.DEBUG), _followed(topic) as configs:
        configs.wait_current(10)
        assert (configs.skipped, configs.get(KEY).config.cooldown_minutes) == (3, 1)
    assert "is skipped" in caplog.text
    assert "very-secret" not in caplog.text


def test_while_the_broker_is_away_what_is_known_stays():
    """It cannot be said then that it is current; afterwards it can, with what is new."""
    topic = FakeTopic(1)
    _tell(topic, AlertConfig(cooldown_minutes=1))
    with _followed(topic) as configs:
        configs.wait_current(10)
        topic.away = True
        with pytest.raises(FeedNotReady, match="are not known after"):
            configs.wait_current(0.1)
        assert configs.get(KEY).config.cooldown_minutes == 1
        _tell(topic, AlertConfig(cooldown_minutes=2))
        topic.away = False
        configs.wait_current(20)
        assert configs.get(KEY).config.cooldown_minutes == 2

"""The environment: the same variables, defaults and bounds as the service's settings."""

import math

import pytest

from outlay import TopicNames
from outlay.environment import Environment, check_seconds
from schemas.settings import Settings

SERVERS, PREFIX = "OUTLAY_KAFKA_BOOTSTRAP_SERVERS", "OUTLAY_TOPIC_PREFIX"
STALE = "OUTLAY_STALE_AFTER_S"


def test_the_defaults_are_those_of_the_service():
    """Without any variable library and service find each other."""
    there, settings = Environment.read({}), Settings(_env_file=None)
    assert there.bootstrap_servers == settings.kafka_bootstrap_servers
    assert there.topics == settings.topics
    assert there.stale_after_s == settings.stale_after_s


def test_the_variables_mean_what_they_mean_to_the_service(monkeypatch):
    """Each of the three, by its name."""
    for name, value in {
        SERVERS: "kafka-1:9092,kafka-2:9092",
        PREFIX: "eu.prod",
        STALE: "2.5",
    }.items():
        monkeypatch.setenv(name, value)
    there, settings = Environment.read(), Settings()
    assert (
        there.bootstrap_servers == settings.kafka_bootstrap_servers == "kafka-1:9092,kafka-2:9092"
    )
    assert there.topics == settings.topics == TopicNames("eu.prod")
    assert there.stale_after_s == settings.stale_after_s == 2.5


def test_arguments_go_before_variables():
    """Also where the variable's value could not be."""
    there = Environment.read(
        {SERVERS: "", PREFIX: "?", STALE: "x"},
        bootstrap_servers="[::1]:9092",
        topics=TopicNames("t"),
        stale_after_s=1,
    )
    assert there == Environment("[::1]:9092", TopicNames("t"), 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (SERVERS, ""),
        (SERVERS, "a:1,,b:2"),
        (SERVERS, "a:port"),
        (SERVERS, "a:0"),
        (SERVERS, "a:70000"),
        (PREFIX, ""),
        (PREFIX, "a b"),
        (PREFIX, "x" * 101),
        (STALE, ""),
        (STALE, "soon"),
        (STALE, "0"),
        (STALE, "-1"),
        (STALE, "nan"),
        (STALE, "inf"),
        (STALE, "86401"),
    ],
)
def test_a_variable_that_cannot_be_is_named(name, value):
    """With what is wrong, before anything connects."""
    with pytest.raises(ValueError, match=f"^{name} must "):
        Environment.read({name: value})


@pytest.mark.parametrize("seconds", [True, "1", None, 0, -1, math.nan, math.inf, 86_401, 10**400])
def test_bounds_are_numbers_of_seconds(seconds):
    """Above 0, finite, and at most a day."""
    with pytest.raises(ValueError, match=r"^bound_s must be a number of seconds"):
        check_seconds("bound_s", seconds)


@pytest.mark.parametrize(
    "given", [{"bootstrap_servers": 9092}, {"topics": "outlay"}, {"stale_after_s": math.nan}]
)
def test_arguments_are_checked_too(given):
    """By the name of the argument."""
    with pytest.raises(ValueError, match=f"^{next(iter(given))} must "):
        Environment.read({}, **given)

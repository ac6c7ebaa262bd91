"""What can go wrong with ClickHouse, sorted by what helps: waiting, or a person."""

from __future__ import annotations

from clickhouse_connect.driver.exceptions import (
    ClickHouseError,
    DatabaseError,
    DataError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
)


class HistoryError(Exception):
    """ClickHouse did not do what it was asked."""


class HistoryAway(HistoryError):
    """It cannot be reached or cannot take more just now; the same later may work."""


class HistoryRefused(HistoryError):
    """The same again would fail again: credentials, a schema that does not match, a bug."""


# Codes of ClickHouse's src/Common/ErrorCodes.cpp that pass by themselves.
_PASSING = frozenset(
    {
        3,  # UNEXPECTED_END_OF_FILE
        32,  # ATTEMPT_TO_READ_AFTER_EOF
        95,  # CANNOT_READ_FROM_SOCKET
        96,  # CANNOT_WRITE_TO_SOCKET
        159,  # TIMEOUT_EXCEEDED
        164,  # READONLY
        198,  # DNS_ERROR
        201,  # QUOTA_EXCEEDED
        202,  # TOO_MANY_SIMULTANEOUS_QUERIES
        203,  # NO_FREE_CONNECTION
        209,  # SOCKET_TIMEOUT
        210,  # NETWORK_ERROR
        236,  # ABORTED
        241,  # MEMORY_LIMIT_EXCEEDED
        242,  # TABLE_IS_READ_ONLY
        243,  # NOT_ENOUGH_SPACE
        252,  # TOO_MANY_PARTS
        285,  # TOO_FEW_LIVE_REPLICAS
        319,  # UNKNOWN_STATUS_OF_INSERT
        394,  # QUERY_WAS_CANCELLED
        425,  # SYSTEM_ERROR
        439,  # CANNOT_SCHEDULE_TASK
        999,  # KEEPER_EXCEPTION
    }
)


def sorted_error(error: Exception) -> HistoryError:
    """The error as one of the two kinds. What is not ClickHouse's is a bug and passes no test."""
    text = str(error) or repr(error)
    if isinstance(error, OSError | OperationalError):
        return HistoryAway(text)
    if isinstance(error, ProgrammingError | NotSupportedError | DataError):
        return HistoryRefused(text)
    if isinstance(error, DatabaseError):
        # Without a code it was a proxy that answered, or a server that is only starting.
        away = error.code is None or error.code in _PASSING
        return HistoryAway(text) if away else HistoryRefused(text)
    if isinstance(error, ClickHouseError):
        return HistoryAway(text)
    return HistoryRefused(f"{type(error).__name__}: {text}")

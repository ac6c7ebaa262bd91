"""Guarding: a function that spends, with a reservation around each of its calls."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from outlay.money import Money
from outlay.reservation import Reservation

Actual = Money | Mapping[str, Any]
"""What a call has used: its cost, or the arguments of `Reservation.settle`."""

logger = logging.getLogger("outlay.gateway")

_GENERATORS = (inspect.isgeneratorfunction, inspect.isasyncgenfunction)

_P = ParamSpec("_P")
_R = TypeVar("_R")


def guard(
    reserve: Callable[..., Reservation],
    asked: Mapping[str, Any],
    actual: Callable[[Any], Actual],
    actual_on_error: Callable[[BaseException], Actual] | None,
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """A decorator that reserves before each call, and settles after it.

    Args:
        reserve: makes the reservation, or raises where a budget blocks.
        asked: its arguments; one that is callable is given the arguments of the call.
        actual: what a call has used, told by what it returns.
        actual_on_error: the same by what it raises; without it a failed call cost nothing.
    """

    def reserved(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reservation:
        fields = {
            name: value(*args, **kwargs) if callable(value) else value
            for name, value in asked.items()
        }
        return reserve(**fields)

    def failed(call: Reservation, error: BaseException) -> None:
        if call.state not in ("open", "expired"):
            return
        if actual_on_error is not None:
            try:
                _settle(call, actual_on_error(error), success=False)
                return
            except Exception:  # what ended the call is not hidden, a cancellation for instance
                logger.exception("actual_on_error failed, the call is reported at no cost")
        call.settle(0, success=False)

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        if not callable(function):
            raise ValueError(f"not a function: {function!r}; guard below @classmethod, not above")
        body = type(function).__call__  # where it is an object
        if any(is_one(each) for is_one in _GENERATORS for each in (function, body)):
            raise ValueError("a generator goes on after its call: use `with gateway.reserve(…)`")
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(body):

            @functools.wraps(function)
            async def guarded_async(*args: _P.args, **kwargs: _P.kwargs) -> Any:
                with reserved(args, kwargs) as call:
                    try:
                        result = await function(*args, **kwargs)  # type: ignore[misc]
                        _settle(call, actual(result), success=True)
                    except BaseException as error:
                        failed(call, error)
                        raise
                    return result

            return guarded_async  # type: ignore[return-value] # it is one where the function is

        @functools.wraps(function)
        def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            with reserved(args, kwargs) as call:
                try:
                    result = _ended(function(*args, **kwargs))
                    _settle(call, actual(result), success=True)
                except BaseException as error:
                    failed(call, error)
                    raise
                return result

        return guarded

    return decorate


def _ended(result: _R) -> _R:
    """What a call returned, when it is over.

    Raises:
        ValueError: it has only begun.
    """
    if inspect.isgenerator(result) or inspect.isasyncgen(result) or inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise ValueError("the call goes on after it has returned: guard the async function itself")
    return result


def _settle(call: Reservation, used: Actual, *, success: bool) -> None:
    if isinstance(used, Mapping):
        call.settle(**{"success": success, **used})
    else:
        call.settle(used, success=success)

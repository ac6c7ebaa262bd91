"""Guarding: a function that spends, with a reservation around each of its calls."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from outlay.money import Money
from outlay.reservation import Reservation

Actual = Money | Mapping[str, Any]
"""What a call has used: its cost, or the arguments of `Reservation.settle`."""

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
        if call.state in ("open", "expired"):
            used = 0 if actual_on_error is None else actual_on_error(error)
            _settle(call, used, success=False)

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ValueError("a generator goes on after its call: use `with gateway.reserve(…)`")
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def guarded_async(*args: _P.args, **kwargs: _P.kwargs) -> Any:
                with reserved(args, kwargs) as call:
                    try:
                        result = await function(*args, **kwargs)
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
                    result = function(*args, **kwargs)
                    _settle(call, actual(result), success=True)
                except BaseException as error:
                    failed(call, error)
                    raise
                return result

        return guarded

    return decorate


def _settle(call: Reservation, used: Actual, *, success: bool) -> None:
    if isinstance(used, Mapping):
        call.settle(**{"success": success, **used})
    else:
        call.settle(used, success=success)

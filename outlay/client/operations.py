"""Operations: what a resource can do, said once for the sync and the async client.

A method of a `Resource` builds an `Ask`, without any I/O. `operation` makes of it what users call:
on a resource of `Client` it returns the result, on one of `AsyncClient` an awaitable of it. So both
say the same words, and a further resource is one class of such methods.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

import uuid_utils

from outlay.client.addresses import target
from outlay.client.async_runner import AsyncRunner
from outlay.client.calls import Ask, Call, Page
from outlay.client.following import Subscription
from outlay.client.sync_runner import SyncRunner

R = TypeVar("R", bound=SyncRunner | AsyncRunner)
P = ParamSpec("P")
T = TypeVar("T")

Build = Callable[Concatenate[Any, P], T]


class Resource(Generic[R]):
    """Something of the API, on a runner."""

    def __init__(self, runner: R) -> None:
        self._runner = runner


class Operation(Generic[P, T]):
    """One request of the API: `method` and `path`, as its OpenAPI document has them."""

    def __init__(self, method: str, path: str, build: Build[P, Ask[T]]) -> None:
        self.method = method
        self.path = path
        self._build = build
        self.__doc__ = build.__doc__

    def call(self, instance: object, *args: P.args, **kwargs: P.kwargs) -> Call[T]:
        """The request for these arguments."""
        ask = self._build(instance, *args, **kwargs)
        return Call(self.method, target(self.path, ask.path, ask.query), _request_id(), ask)

    @overload
    def __get__(self, instance: Resource[SyncRunner], owner: object) -> Callable[P, T]: ...

    @overload
    def __get__(
        self, instance: Resource[AsyncRunner], owner: object
    ) -> Callable[P, Coroutine[Any, Any, T]]: ...

    @overload
    def __get__(self, instance: None, owner: object) -> Self: ...

    def __get__(self, instance: Resource[Any] | None, owner: object) -> Any:
        """The method of a resource."""
        if instance is None:
            return self

        def run(*args: P.args, **kwargs: P.kwargs) -> Any:
            return instance._runner.run(self.call(instance, *args, **kwargs))

        return _named(run, self._build, instance)


class Listing(Generic[P, T]):
    """All items of a list, whose pages are asked for one after the other."""

    def __init__(self, page: Operation[P, Page[T]], build: Build[P, object]) -> None:
        self._page = page
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(
        self, instance: Resource[SyncRunner], owner: object
    ) -> Callable[P, Iterator[T]]: ...

    @overload
    def __get__(
        self, instance: Resource[AsyncRunner], owner: object
    ) -> Callable[P, AsyncGenerator[T, None]]: ...

    @overload
    def __get__(self, instance: None, owner: object) -> Self: ...

    def __get__(self, instance: Resource[Any] | None, owner: object) -> Any:
        """The method of a resource."""
        if instance is None:
            return self

        def pages(*args: P.args, **kwargs: P.kwargs) -> Any:
            def call_for(cursor: str | None) -> Call[Page[T]]:
                more: dict[str, Any] = {} if cursor is None else {"cursor": cursor}
                return self._page.call(instance, *args, **{**kwargs, **more})

            first = call_for(None)  # at once, as an operation does: wrong arguments are said here
            return instance._runner.pages(lambda cursor: call_for(cursor) if cursor else first)

        return _named(pages, self._build, instance)


class Stream(Generic[P, T]):
    """A stream of events that is opened again where it breaks off."""

    def __init__(self, method: str, path: str, build: Build[P, Subscription[T]]) -> None:
        self.method = method
        self.path = path
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(
        self, instance: Resource[SyncRunner], owner: object
    ) -> Callable[P, Generator[T, None, None]]: ...

    @overload
    def __get__(
        self, instance: Resource[AsyncRunner], owner: object
    ) -> Callable[P, AsyncGenerator[T, None]]: ...

    @overload
    def __get__(self, instance: None, owner: object) -> Self: ...

    def __get__(self, instance: Resource[Any] | None, owner: object) -> Any:
        """The method of a resource."""
        if instance is None:
            return self

        def follow(*args: P.args, **kwargs: P.kwargs) -> Any:
            what = self._build(instance, *args, **kwargs)
            where = target(self.path, what.ask.path, what.ask.query)
            return instance._runner.follow(Call(self.method, where, _request_id(), what.ask), what)

        return _named(follow, self._build, instance)


def operation(method: str, path: str) -> Callable[[Build[P, Ask[T]]], Operation[P, T]]:
    """Make a request of the API of a method that builds what it asks."""
    return lambda build: Operation(method, path, build)


def all_of(page: Operation[P, Page[T]]) -> Callable[[Build[P, object]], Listing[P, T]]:
    """Make a list of all items of a paged operation, of a method with the same parameters."""
    return lambda build: Listing(page, build)


def stream(method: str, path: str) -> Callable[[Build[P, Subscription[T]]], Stream[P, T]]:
    """Make a stream of events of a method that builds what is followed."""
    return lambda build: Stream(method, path, build)


def _named(run: Callable[..., Any], build: Callable[..., Any], instance: object) -> Any:
    return functools.wraps(build.__get__(instance))(run)


def _request_id() -> str:
    return str(uuid_utils.uuid7())

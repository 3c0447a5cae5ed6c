"""The one loop that drives every algorithm, and the control flow that a trace needs instead of Python's."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

S = TypeVar("S")


def iterate(step: Callable[[S], S], state: S, finished: Callable[[S], Any]) -> S:
    """Apply `step` to `state` until it is `finished`; a state is never changed, only replaced."""
    while not finished(state):
        state = step(state)
    return state


def branch(condition: Any, then: Callable[..., S], otherwise: Callable[..., S], *operands: Any) -> S:
    """Call one of two functions."""
    return then(*operands) if condition else otherwise(*operands)


class Flow(NamedTuple):
    """How values decide what is done next; under a trace a state keeps its shapes and dtypes."""

    iterate: Callable[..., Any]
    branch: Callable[..., Any]


EAGER = Flow(iterate, branch)

"""The one loop that drives every algorithm."""

from collections.abc import Callable
from typing import TypeVar

S = TypeVar("S")


def iterate(step: Callable[[S], S], state: S, finished: Callable[[S], bool]) -> S:
    """Apply `step` to `state` until it is `finished`; a state is never changed, only replaced."""
    while not finished(state):
        state = step(state)
    return state

"""Errors for keywords that a function does not take: they name the one that was probably meant."""

from __future__ import annotations

import functools

# Type checkers take it for true; see `__init__.py`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    _Call = TypeVar("_Call", bound=Callable[..., Any])

# What other tools and other ways in call it.
_MEANT = {
    "claim": ("claims", "require_claims"),
    "edition": ("tier",),
    "license": ("licence",),
    "key": ("identity", "recipients"),
    "require": ("require_claims",),
    "signed_by": ("allowed_signers",),
    "signers": ("allowed_signers",),
}


def unexpected(function, name, known):
    """The error for the keyword `name`, which the function with the keywords `known` does not take."""
    import difflib

    known = list(known)
    meant = [right for right in _MEANT.get(name, ()) if right in known]
    meant += difflib.get_close_matches(name, known, 1)
    hint = f": did you mean {meant[0]!r}?" if meant else ""
    return TypeError(f"{function}() got an unexpected keyword argument {name!r}{hint}")


def helps_with_keywords(function: _Call) -> _Call:
    """Gives a function errors that name the keyword that was probably meant."""

    @functools.wraps(function)
    def call(*arguments, **named):
        try:
            return function(*arguments, **named)
        except TypeError as error:
            # An error of what the function calls has passed a frame of Python's.
            if error.__traceback__.tb_next is not None or "unexpected keyword" not in str(error):
                raise
            import inspect

            known = inspect.signature(function).parameters
            unknown = [name for name in named if name not in known]
            if not unknown:
                raise
            raise unexpected(function.__name__, unknown[0], known) from None

    # Where its name finds it, as pickles do.
    call.__module__ = "onnxseal"
    return call

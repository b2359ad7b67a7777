"""What people may call things: the rule for every new name, of a user as of a category.

It must not be asked of a name that is there already, which stays as it is.
"""

import unicodedata

from chalicelib.core.errors import Fault

_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = "\u200c\u200d"
"""Cf as well, but Persian and Indic names are not written right without them."""


def is_readable(text: str) -> bool:
    """Tell whether a text shows all that it is: no control, no line break, nothing invisible."""
    # the first is a fast way to say so of nearly every name
    return text.isprintable() or not any(
        unicodedata.category(char) in _UNSEEN and char not in _JOINERS for char in text
    )


def is_blank(text: str) -> bool:
    """Tell whether there is nothing to read in a text."""
    return all(char.isspace() or char in _JOINERS for char in text)


def faults(field: str, text: str) -> tuple[Fault, ...]:
    """Say what is wrong with a new name."""
    if is_blank(text):
        return (Fault(field, "is missing"),)
    if not is_readable(text):
        return (Fault(field, "without control and invisible characters"),)
    return ()

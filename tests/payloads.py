"""Payloads for property tests: what every codec of data carries as it is."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

__all__ = ["payloads", "text"]

text = st.text(st.characters(exclude_categories=["Cs"]))


def payloads(words: st.SearchStrategy[str] = text, leaves: int = 20) -> st.SearchStrategy[Any]:
    """Return what makes values, lists and maps of them, with these words and at most so many values."""
    return st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | words,
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(words, inner, max_size=5),
        max_leaves=leaves,
    )

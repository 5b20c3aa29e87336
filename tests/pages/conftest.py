"""The book and its reader, for every test of this folder."""

from reader import book, browser

__all__ = ["book", "browser"]

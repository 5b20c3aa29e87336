"""Edits of constants that change nothing that a caller could see, and why: what ``mutate_theory.py`` lets survive.

Each is the module, the function, the edited line and the reason; the script checks that the edit still exists, and that
it still survives.
"""

EQUIVALENT: list[tuple[str, str, str, str]] = []

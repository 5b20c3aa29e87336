"""Run the lectures and collect their verdicts: what stands behind the ``optcourse`` command.

==============  ======================================================================
``catalog``     which lectures, topics and slides there are (``lectures/topics.toml``, ``decks.toml``)
``runner``      execute lectures side by side, with progress, interrupts and resume
``execution``   one notebook in one kernel: time limits, failures, a kernel that can be killed
``display``     the progress of a run on a terminal
``claims``      all claims with their verdicts, slips and advice: what lecture 20 shows
``report``      ``run.json`` and ``verdicts.json``
``book``        one site of all lectures and of what is known about them
``cli``         the command line
==============  ======================================================================
"""

import sys

if "nbformat" not in sys.modules:
    # Its jsonschema can check addresses, with a grammar that takes a second to build at every start of the command;
    # notebooks ask for no such check, and it does without what it cannot import.
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
    import nbformat

    del sys.modules["rfc3987_syntax"]

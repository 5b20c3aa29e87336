"""What the labs' test cells are made of.

==========  ==========================================================================
``cells``   :func:`expect` teaches, :func:`hidden` grades
``values``  numbers as data: what crosses the border between two processes
==========  ==========================================================================
"""

from optcourse.labs.cells import Case, NotAsExpected, expect, hidden

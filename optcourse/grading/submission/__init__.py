"""A submitted notebook, put together with its lab.

============  ==================================================================
``matching``  which cell of the lab a submitted cell is
``order``     what runs, in which order, and what a person should look at
============  ==================================================================
"""

from optcourse.grading.reading import MAX_BYTES, Unreadable, read
from optcourse.grading.submission.matching import looks_like
from optcourse.grading.submission.order import Cell, assemble, untouched, written_answers

__all__ = ["MAX_BYTES", "Cell", "Unreadable", "assemble", "looks_like", "read", "untouched", "written_answers"]

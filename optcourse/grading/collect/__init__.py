"""Who submitted what: a folder, a zip or an export of a learning-management system becomes one row a student.

==========  =====================================================================
``places``  every file below a folder or in a zip, not read yet
``names``   whose a file is and which lab's, from names; names that are safe
``whose``   which folder is a student's, and what is nobody's
``choose``  the rows, and which file of a student counts
``roster``  the list of the class: who is missing, who is extra
==========  =====================================================================
"""

from optcourse.grading.collect.choose import Found, Submission, find, survey
from optcourse.grading.collect.names import readable
from optcourse.grading.collect.whose import LeftOut

__all__ = ["Found", "LeftOut", "Submission", "find", "readable", "survey"]

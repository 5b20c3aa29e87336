"""Grade labs: strangers' notebooks run in a box, and are compared outside it.

==============  ======================================================================
``lab``         a lab as the grader knows it; ``release``: what students get of it
``collect``     who submitted what; ``submission``: one file, cleaned
``sandbox``     the box; ``worker`` runs inside it
``grade``       one submission; ``batch``: a class, stopped and resumed
``gradebook``   nbgrader's; ``feedback``: a page for each student
``check``       the same tests for a student; ``commands``: the command line
==============  ======================================================================
"""

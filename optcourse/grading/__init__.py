"""Grade labs: strangers' notebooks run in a box, and are compared outside it.

===========================  ===============================================================
``lab``, ``release``         a lab as the grader knows it; what students get of it
``collect``, ``submission``  who submitted what; one file, cleaned
``sandbox``, ``worker``      the box; what runs inside it
``grade``, ``batch``         one submission; a class, stopped and resumed
``gradebook``, ``feedback``  nbgrader's; a page for each student
``harmless``                 what strangers wrote, as both show it
``check``, ``commands``      the same tests for a student; the command line
===========================  ===============================================================
"""

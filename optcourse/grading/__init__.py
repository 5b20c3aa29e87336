"""Grade labs: strangers' notebooks run in a box, and are compared outside it.

===========================  ===============================================================
``lab``, ``release``         a lab as the grader knows it; what students get of it
``collect``                  who submitted what
``reading``, ``submission``  one file, cleaned; back in the order of the lab
``sandbox``, ``box``         a box; what it is made of, what bounds it, what runs inside
``grade``, ``batch``         one submission; a class, stopped and resumed
``gradebook``, ``feedback``  nbgrader's; a page for each student
``harmless``                 what strangers wrote, as both show it
``check``, ``commands``      the same tests for a student; the command line
===========================  ===============================================================
"""

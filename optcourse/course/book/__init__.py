"""The book: one site of lectures, claims, slides and guarantees, made by Sphinx from what a run left.

==============  ======================================================================
``build``       from the course to ``index.html``: sources, pictures, Sphinx
``extension``   what is added to Sphinx: formulas as MathML, the style sheet and script
``content``     what pages are made of: tables, records, verdicts
``chapters``    a lecture's notebook as a page
``players``     sliders that work without a kernel
``pages``       the other pages and their order
``handbook``    every guarantee of the theory
``guarantees``  instances on which they are as tight as they say, as sweeps
``landing``     the first page, with the map of the lectures
``verdicts``    the page of all claims
``slides``      what answers each slide, and where its formula slips
``runs``        the page about the last run
``manual``      labs and a page of each, instructors, performance, clusters
``reference``   the API
==============  ======================================================================

Texts that a person wrote are in ``texts``, the style sheet and the script of the pages in ``static``.
"""

"""Every guarantee of ``optcourse.theory`` beside an instance that comes near it: what the handbook shows, tests check.

================  ====================================================================
``instance``      what an instance is
``table``         all of them, and all guarantees
``docstring``     the parts of a guarantee's docstring, as Markdown
``pictures``      bound against instance, drawn once
``descent``       methods without noise
``noise``         one node with noise, chance, or a proof that rounds
``tilted``        the tilted risk
``many_nodes``    local steps and gossip
``compression``   compressed messages
``delays``        old gradients, attackers
================  ====================================================================
"""

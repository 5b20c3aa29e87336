"""What a box is made of, what bounds it, and what runs inside.

=============  =============================================================
``bubble``     bubblewrap's walls, and what is inside
``limits``     what a submission may use, and how many fit into this machine
``usage``      what its processes hold and have used, counted from outside
``groups``     the same, counted by the kernel, where control groups allow it
``talk``       what it may say
``syscalls``   what the kernel does not do for them
``worker``     inside: one who listens to the grader and runs the notebook
``inside``     the notebook's own process, and its copies
``kernel``     a Jupyter kernel, driven without a server
``process``    what it runs in
=============  =============================================================
"""

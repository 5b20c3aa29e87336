"""What a box is made of, and what bounds it.

=============  =============================================================
``bubble``     bubblewrap's walls, and what is inside
``limits``     what a submission may use, and how many fit into this machine
``usage``      what its processes hold and have used, counted from outside
``groups``     the same, counted by the kernel, where control groups allow it
``talk``       what it may say
``syscalls``   what the kernel does not do for them
=============  =============================================================
"""

"""``torchrun --nproc-per-node 4 -m optcourse.nodes run psgd --nodes 8``."""

from optcourse.nodes.run.cli import main

if __name__ == "__main__":
    main()

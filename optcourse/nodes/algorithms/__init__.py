"""The algorithms: generators of iterates whose lines read like the slides."""

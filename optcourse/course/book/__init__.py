"""The book: one site of all lectures, claims, slides and guarantees, made by Sphinx."""

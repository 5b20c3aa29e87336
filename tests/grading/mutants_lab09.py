"""Plausible wrong solutions of lab 09, and what each still earns."""

from grading_cases import Mutant

MUTANTS = []

"""x"""
from grading_cases import Mutant
MUTANTS = []

"""Ablations: what each part of a recipe is worth. `design` is what is asked; it imports nothing heavy."""

"""Explanations of a run's answers, each with checks that say whether it can be believed."""

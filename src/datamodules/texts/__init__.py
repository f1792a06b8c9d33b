"""Texts from tables."""

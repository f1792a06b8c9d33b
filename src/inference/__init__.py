"""Predictions from run directories."""

"""Comparing runs: found and read, grouped over seeds, shown in the terminal, files and a page. No torch."""

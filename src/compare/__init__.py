"""Comparing runs: found and read, grouped over seeds, shown in the terminal, in files and on a page. No torch in here."""

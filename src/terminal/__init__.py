"""What a person sees: labelled lines at the terminal's width, and no control codes but our own."""

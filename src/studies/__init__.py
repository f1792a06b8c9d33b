"""Many runs as one: folds, ensembles, reproductions."""

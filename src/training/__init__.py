"""From an experiment to a finished run; the one place that calls `Trainer.fit`."""

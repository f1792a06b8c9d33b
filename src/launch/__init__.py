"""Starting a run on several processes or machines by engines that exist: torchrun, Slurm."""

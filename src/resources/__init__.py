"""What all packages share of the machine: files, cache, network and the hub's models."""

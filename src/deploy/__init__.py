"""Models that leave their run: exports with a certificate, and a server of them."""

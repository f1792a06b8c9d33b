"""A server of one export: HTTP, the Open Inference Protocol and a page. It imports no torch."""

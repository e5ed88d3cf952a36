"""What queries, metrics, detectors and the causal graph are made of."""

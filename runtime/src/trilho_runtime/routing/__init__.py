"""Traffic between versions: weights, sticky keys, the shadow and what each version scored."""

"""What trilho runs inside a project's own environment: steps, model packages, the prediction server."""

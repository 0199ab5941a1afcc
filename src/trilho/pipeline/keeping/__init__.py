"""What runs leave in a home: artifacts, manifests, folders; and which of it nothing needs."""

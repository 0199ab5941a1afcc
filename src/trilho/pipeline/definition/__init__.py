"""What a project's pipeline code says, and what its steps take and give, read without importing them."""

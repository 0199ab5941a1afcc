"""What serves: the processes of an endpoint, and the log of what they answered."""

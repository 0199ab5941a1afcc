"""The processes of a server: workers and their sums, replicas by plan, and the packages they fetch."""

"""What tools that a team already has can read of the watch: Prometheus metrics, alert rules, dashboards as code."""

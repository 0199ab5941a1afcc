"""A prediction as it is asked, answered and kept: the job, its entries, its log line and its live profile."""

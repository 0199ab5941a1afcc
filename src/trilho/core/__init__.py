"""What every stage shares: records, the journal's chain, projections of it, ports and digests."""

"""What a run tells the outside beside its log: a heartbeat, metrics and traces."""

"""What the job costs beside its LLM: measured against loopback servers with set latencies."""

"""The Store port: users, conversations, summaries, devices and ledgers as documents."""

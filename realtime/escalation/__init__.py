"""The rooms of escalation: from the outbox in the database to webhooks and people."""

"""What is always on: the WebSocket service, and the outbox's relay."""

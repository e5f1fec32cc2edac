"""Chat: messages between two, and requests to chat."""

"""Live events: what background functions send to the sockets of users."""

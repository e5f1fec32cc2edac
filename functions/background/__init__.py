"""Entry points for events: each is one function, called at least once and in any order."""

"""What every feature stands on: configuration, endpoints, codecs, problems, tokens, stores, events."""

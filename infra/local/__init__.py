"""The parts of the local stack: what `./dev up` starts in place of Google Cloud."""

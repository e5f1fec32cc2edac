"""The bench, `./dev bench`. `run` is what runs it; nothing is imported here, as `load` is a program of its own too."""

"""Entry points: what Google Cloud calls. They parse, authorise, call one action or read, and answer."""

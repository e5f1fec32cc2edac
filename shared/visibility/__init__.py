"""The one gate: who may see, find, be told of or reach what."""

"""The social graph as a projection: who there is, and who follows whom."""

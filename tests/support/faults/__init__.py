"""Calls that fail, workers that can be stopped at any call and really killed, and the world that they work in."""

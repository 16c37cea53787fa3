"""From canonical tables to cached backbone features."""

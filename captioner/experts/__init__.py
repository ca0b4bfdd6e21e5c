"""The sub-expert captioners: each sees one thing, and leaves what it does not see."""

"""Which method, and why."""

"""Low-rank networks for families of equations, and their fast adaptation through reduced networks."""

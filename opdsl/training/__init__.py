"""Training of physics-informed networks: points, networks and the two trainers behind `opdsl.training.solve`."""

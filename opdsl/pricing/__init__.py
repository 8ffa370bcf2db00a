"""What a method costs, counted on arrays without numbers."""

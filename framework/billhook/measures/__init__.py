"""What selectors look at: window distances, what units are worth, the curvature of the loss."""

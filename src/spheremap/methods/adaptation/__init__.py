"""A feature adapter trained on pseudo-labels (the idea of Dünkel et al. 2025, "Do It Yourself")."""

"""What routers do, and what mixtures cost."""

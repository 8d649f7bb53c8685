"""Neural collapse: the geometry that regularised training drives features and classifier to."""

"""Systems of several networks as schemas: types, arrows, and equations between composites."""

"""How well samples stand for data: windows, modes, a discriminator's view."""

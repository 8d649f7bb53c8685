"""Time series by class: sets that a package carries, and the formats of the UCR and UEA archives."""

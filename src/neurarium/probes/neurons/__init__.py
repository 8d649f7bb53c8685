"""Single neurons: which changed, what they say."""

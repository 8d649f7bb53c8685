"""Images: folders of them, how files become pixels, and what is drawn or damaged on purpose."""
